#!/bin/bash
# SPDX-License-Identifier: MIT
# Deleted files come back with their extended attributes, as many as there are; a directory that has become a file is told.
# builds: plain faults
. "$(dirname "$0")/../lib/e2e.sh"
need_root
need_program python3
need_program prlimit
need_program setpriv
with_reaper "$@"
image=$TMPDIR/image

cat >"$TMPDIR/holder.py" <<'END'
import os, resource, struct, sys, time
here, what = sys.argv[1:]
os.mkdir(here)

def told(name, text=""):
    with open(here + "/" + name + ".new", "w") as f:
        f.write(text)
    os.rename(here + "/" + name + ".new", here + "/" + name)

bad = []
# Version 2, effective: CAP_NET_BIND_SERVICE.
wanted = {"user.one": b"val\0ue", "user.empty": b"", "trusted.t": b"x" * 200,
          "security.capability": struct.pack("<5I", 0x02000001, 1 << 10, 0, 0, 0),
          "system.posix_acl_access": struct.pack("<I", 2) + b"".join(
              struct.pack("<HHI", *e) for e in ((1, 6, 0xffffffff), (2, 4, 1000), (4, 0, 0xffffffff),
                                                (16, 6, 0xffffffff), (32, 0, 0xffffffff)))}
directory = {"user.dir": b"d"}

def dress(fd, attributes):
    for name, value in list(attributes.items()):
        try:
            os.setxattr(fd, name, value)
        except OSError as e:
            print(f"{name}: not here: {e}", flush=True)
            del attributes[name]

def compare(what, fd, attributes):
    for name, value in attributes.items():
        try:
            has = os.getxattr(fd, name)
        except OSError as e:
            has = e
        if has != value:
            bad.append(f"{what}: {name} is {has}, was {value}")

path = here + "/there"
if what == "attributes":
    path = here + "/d"
    os.mkdir(path)
    fd = os.open(path + "/f", os.O_RDWR | os.O_CREAT)
    dress(fd, wanted)
    as_was = os.fstat(fd)
    dfd = os.open(path, os.O_DIRECTORY)
    dress(dfd, directory)
    os.unlink(path + "/f")
    os.rmdir(path)
elif what == "file":
    fd = os.open(path, os.O_RDWR | os.O_CREAT)
elif what == "many":
    fds = []
    resource.setrlimit(resource.RLIMIT_NOFILE, [resource.getrlimit(resource.RLIMIT_NOFILE)[1]] * 2)
    for n in range(1500):
        fds.append(os.open(here + "/f", os.O_RDWR | os.O_CREAT))
        os.write(fds[-1], b"%d" % n)
        os.unlink(here + "/f")
elif what == "last":
    limit = 1400
    resource.setrlimit(resource.RLIMIT_NOFILE, [limit] * 2)
    fd = os.dup2(os.open(here + "/f", os.O_RDWR | os.O_CREAT), limit - 1)
    os.unlink(here + "/f")
elif what == "ghost":
    os.mkdir(path)
    fd = os.open(path + "/f", os.O_RDWR | os.O_CREAT)
    os.unlink(path + "/f")
    os.rmdir(path)
else:
    os.mkdir(path)
    if what == "cwd":
        os.chdir(path)
    elif what == "fd":
        fd = os.open(path, os.O_DIRECTORY)
told("ready")
while not os.path.exists(here + "/go"):
    time.sleep(0.02)
if what == "attributes":
    compare("file", fd, wanted)
    compare("directory", dfd, directory)
    now = os.fstat(fd)
    if (now.st_mode, now.st_mtime_ns) != (as_was.st_mode, as_was.st_mtime_ns):
        bad.append(f"mode and time were {as_was}, are {now}")
if what == "many":
    for n, fd in enumerate(fds):
        if os.pread(fd, 10, 0) != b"%d" % n:
            bad.append(f"file {n} of many is wrong")
if what == "last":
    os.write(limit - 1, b"x")
told("answer", "".join(line + "\n" for line in bad))
END

start() { # WHAT
	dir=$TMPDIR/$1
	setsid python3 "$TMPDIR/holder.py" "$dir" "$1" </dev/null >"$TMPDIR/out" 2>&1 &
	pid=$!
	living "$1" $pid
	await_file "$dir/ready" || die "$1: does not get ready: $(<"$TMPDIR/out")"
	stasis dump -t $pid -D "$image" --no-log || die "$1: dump: $RC $ERR"
	wait $pid 2>/dev/null
}

start attributes
if [[ $BUILD == *-faults ]]; then
	# What was made for the deleted directory is not what it should be.
	STASIS_FAULT=restore.special:error expect_refusal 20 "a special file of another" restore -D "$image" -d
	[[ $ERR == *"/attributes/d is another one already"* ]] || bad "not told: $ERR"
	[ ! -e "$dir/d" ] || bad "$dir/d is left"
fi
stasis restore -D "$image" -d --no-log || die "restore: $RC $ERR"
: >"$dir/go"
await_file "$dir/answer" || die "the restored holder does not answer"
[ ! -s "$dir/answer" ] || bad "$(<"$dir/answer")"
[ ! -e "$dir/d" ] || bad "the deleted directory has a name again"
rm -rf "$image"

# Two descriptors of the tool each: its own limit is of no matter.
start many
limit=$(ulimit -Sn)
ulimit -Sn 1024
stasis restore -D "$image" -d --no-log || bad "many deleted files: restore: $RC $ERR"
ulimit -Sn "$limit"
if [ "$RC" = 0 ]; then
	: >"$dir/go"
	await_file "$dir/answer" || die "the holder of many files does not answer"
	[ ! -s "$dir/answer" ] || bad "$(<"$dir/answer")"
fi
rm -rf "$image"

# The last number that a limit allows is in use, and nobody may raise the limit.
start last
prlimit --nofile=1400:1400 setpriv --bounding-set -sys_resource --inh-caps -sys_resource \
	"$STASIS" restore -D "$image" -d --no-log || bad "a limit that is used to its end: restore: $?"
: >"$dir/go"
await_file "$dir/answer" || bad "the holder of the last number does not answer"
rm -rf "$image"

# changed WHAT TEXT: is of another kind now
changed() {
	local what=$1 text=$2
	start "$what"
	if [ "$what" = file ]; then
		rm "$dir/there"
		mkdir "$dir/there"
	else
		[ ! -e "$dir/there" ] || rmdir "$dir/there"
		: >"$dir/there"
	fi
	expect_refusal 20 "$what: another kind" restore -D "$image" -d
	[[ $ERR == *"$dir/there"*"$text"* ]] || bad "$what: not told: $ERR"
	[ ! -e /proc/$pid ] || bad "$what: process $pid is there"
	gone "$what"
	rm -rf "$image" "$dir"
}

changed cwd "it is no directory now, it was one"
changed fd "it is no directory now, it was one"
changed ghost "was a directory at the dump and is none now"
changed file "it is a directory now, it was a file"
finish
