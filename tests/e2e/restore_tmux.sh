#!/bin/bash
# SPDX-License-Identifier: MIT
# tmux with shells in it and a client attached: dumped, killed, restored; screens, jobs and variables are there.
# timeout: 120
. "$(dirname "$0")/../lib/e2e.sh"
need_root
need_program tmux script
with_reaper "$@"
. tests/lib/real.sh

t() {
	tmux -S "$TMPDIR/sock" "$@"
}
# type WINDOW TEXT: and Enter
type_in() {
	t send-keys -t "a:$1" -l "$2"
	t send-keys -t "a:$1" Enter
}
screen() {
	t capture-pane -p -t "a:$1"
}
shows() { # WINDOW TEXT
	screen "$1" | grep -q -- "$2"
}
# The server and one client at a terminal of its own.
cat >"$TMPDIR/tree" <<'X'
export TERM=xterm PS1='$ '
tmux -D -S "$1/sock" -f /dev/null &
until [ -S "$1/sock" ]; do sleep 0.1; done
tmux -S "$1/sock" new-session -d -s a -x 80 -y 24 "bash --norc"
tmux -S "$1/sock" new-window -t a "bash --norc"
tmux -S "$1/sock" new-window -t a "bash --norc"
# An end of its input would be a Ctrl-D in the shell.
sleep infinity | script -qfc "tmux -S '$1/sock' attach -t a" "$1/typescript" >/dev/null &
echo ready
while :; do wait; done
X
start bash "$TMPDIR/tree" "$TMPDIR"
told 100 ready
type_in 0 'secret=$((6 * 7)); for i in 1 2 3; do echo "line $i"; done'
type_in 1 'i=0; while :; do i=$((i + 1)); echo "count $i"; sleep 0.05; done'
type_in 2 'sleep 1000 | cat &'
type_in 2 'jobs; stty size; vi_like() { stty raw -echo; cat -v; }; vi_like'
until_true 100 shows 0 "^line 3" || die "no screen: $(screen 0)"
until_true 100 shows 1 "^count" || die "no screen: $(screen 1)"
until_true 100 shows 2 "Running" || die "no screen: $(screen 2)"
attached() {
	[ "$(t list-clients -F '#{session_name}' | wc -l)" = 1 ]
}
until_true 100 attached || die "no client"
sleep 0.3

looks_right() { # LABEL
	local now
	[ "$(screen 0)" = "$before" ] || bad "$1: another screen: $(screen 0)"
	attached || bad "$1: the client is gone: $(t list-clients)"
	now=$(screen 1 | grep -o "count [0-9]*" | tail -n 1)
	until_true 50 shows 1 "count $((${now#count } + 5))" || bad "$1: no output any more: $(screen 1)"
	shows 2 "sleep 1000 | cat" || bad "$1: another screen: $(screen 2)"
	t send-keys -t a:2 -l "$1"
	until_true 50 shows 2 "$1" || bad "$1: keys do not arrive: $(screen 2)"
	[ "$(wc -c <"$TMPDIR/typescript")" -gt "$typed" ] || bad "$1: nothing is drawn for the client"
}
for round in once twice; do
	before=$(screen 0)
	typed=$(wc -c <"$TMPDIR/typescript")
	again $round
	looks_right $round
done
type_in 0 'echo "the answer is $secret"'
until_true 50 shows 0 "the answer is 42" || bad "a shell has lost a variable: $(screen 0)"
# Job control: the loop is stopped and goes on in the background, by keys.
t send-keys -t a:1 C-c
type_in 1 'echo "ended $((i > 5))"'
until_true 50 shows 1 "^ended 1" || bad "Ctrl-C does not arrive: $(screen 1)"
t resize-window -t a:0 -x 100 -y 30
type_in 0 'stty size'
until_true 50 shows 0 "^30 100" || bad "the terminal has not got another size: $(screen 0)"
type_in 0 'cat; echo "resumed"'
sleep 0.3
t send-keys -t a:0 C-z
until_true 50 shows 0 "Stopped" || bad "Ctrl-Z does not arrive: $(screen 0)"
again "with a stopped job"
type_in 0 'fg'
type_in 0 'echoed'
until_true 50 shows 0 "^echoed" || bad "fg does not wake the job: $(screen 0)"
stopped "at the end" kill_tree
finish
