#!/bin/bash
# SPDX-License-Identifier: MIT
# The README's example of the log library: its commands are run as they stand there.
. "$(dirname "$0")/../lib/e2e.sh"
. tests/lib/binlog.sh
need_program gcc python3

repo=$PWD
cd "$TMPDIR" || exit 1
ln -s "$repo" stasis
python3 - "$repo/README.md" <<'X' || die "the example cannot be found"
import re, sys
section = open(sys.argv[1]).read().split("\n## binlog, a library of its own\n")[1].split("\n## ")[0]
block = re.search(r"((?:^    .*\n|^\n)+)", section[section.index("    $ cat"):], re.M)[1]
parts = re.split(r"^\$ (.*)\n", re.sub(r"^    ", "", block.rstrip() + "\n", flags=re.M), flags=re.M)[1:]
commands = list(zip(parts[::2], parts[1::2]))
if commands[0][0] != "cat hello.c" or len(commands) < 5:
    sys.exit(f"not what was expected: {commands}")
open("hello.c", "w").write(commands[0][1])
open("commands", "w").write("".join(c + "\n" for c, _ in commands[1:]))
open("want", "w").write("".join(out for _, out in commands[1:]))
X
[ -s want ] || die "the example shows no output"
PATH="$(dirname "$BINDECODE"):$PATH" bash -e commands >got 2>&1 || bad "the commands fail: $(<got)"
same "the example" want got
[ "$(grep -c . hello.c)" -le 14 ] || bad "the example is long: $(grep -c . hello.c) lines"
gcc -I. -Wall -Wextra -Werror -fsyntax-only hello.c || bad "the example has warnings"
cd "$repo" || exit 1
finish
