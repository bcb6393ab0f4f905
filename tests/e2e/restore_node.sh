#!/bin/bash
# SPDX-License-Identifier: MIT
# A node server with workers, timers and clients: dumped, killed, restored; clients keep their connections.
# timeout: 120
. "$(dirname "$0")/../lib/e2e.sh"
need_root
need_program node python3
with_reaper "$@"
. tests/lib/real.sh

cat >"$TMPDIR/server.js" <<'X'
const http = require("http"), net = require("net"), crypto = require("crypto"), fs = require("fs");
const { spawn } = require("child_process"), { Worker, isMainThread, parentPort } = require("worker_threads");
const chain = (s) => crypto.createHash("sha256").update(s).digest("hex");
if (!isMainThread) {
	let n = 0, s = "seed";
	setInterval(() => {
		for (let i = 0; i < 500; i++, n++) s = chain(s);
		parentPort.postMessage([n, s]);
	}, 5);
	return;
}
const sock = process.argv[2], state = { ticks: 0, lines: 0, agent: 0, files: 0, worker: 0 };
const fail = (e) => { console.log("wrong: " + (e.stack || e)); process.exit(1); };
process.on("uncaughtException", fail);
process.on("unhandledRejection", fail);
/* Checked step by step by a second computation. */
let n = 0, s = "seed";
new Worker(__filename).on("message", ([m, t]) => {
	for (; n < m; n++) s = chain(s);
	if (s !== t) fail("the worker has another result after " + m);
	state.worker = m;
}).on("error", fail);
setInterval(() => state.ticks++, 10);
const server = http.createServer((q, r) => {
	if (q.url === "/state") return r.end(JSON.stringify(state));
	let body = [];
	q.on("data", (d) => body.push(d)).on("end", () => r.end(Buffer.concat(body)));
});
server.keepAliveTimeout = 600000;
server.listen(sock, () => {
	const agent = new http.Agent({ keepAlive: true, maxSockets: 3 });
	const ask = () => {
		const data = crypto.randomBytes(30000);
		http.request({ socketPath: sock, agent, method: "POST" }, (r) => {
			let body = [];
			r.on("data", (d) => body.push(d)).on("end", () => {
				if (!Buffer.concat(body).equals(data)) fail("another answer");
				state.agent++;
				setTimeout(ask, 1);
			});
		}).on("error", fail).end(data);
	};
	for (let i = 0; i < 5; i++) ask();
	console.log("ready");
});
const cat = spawn("cat");
let out = "";
cat.on("exit", () => fail("cat has ended"));
cat.stdout.on("data", (d) => {
	out += d;
	if (!out.endsWith("\n")) return;
	if (out !== "line " + state.lines + "\n") fail("cat says " + out);
	out = "";
	cat.stdin.write("line " + ++state.lines + "\n");
});
cat.stdin.write("line 0\n");
(async () => {
	const f = await fs.promises.open(sock + ".file", "w+");
	for (let i = 0; ; i++) {
		const data = crypto.randomBytes(1000), got = Buffer.alloc(1000);
		await f.write(data, 0, 1000, (i % 50) * 1000);
		await f.read(got, 0, 1000, (i % 50) * 1000);
		if (!got.equals(data)) fail("the file has other contents");
		state.files++;
	}
})();
X
start node "$TMPDIR/server.js" "$TMPDIR/sock"
told 100 "^ready"
state() {
	python3 - "$TMPDIR/sock" <<-'PY'
		import socket, sys
		s = socket.socket(socket.AF_UNIX)
		s.settimeout(20)
		s.connect(sys.argv[1])
		s.sendall(b"GET /state HTTP/1.0\r\n\r\n")
		data = b""
		while piece := s.recv(4096):
		    data += piece
		print(data.split(b"\r\n\r\n")[1].decode())
	PY
}
moved() { # STATE
	python3 -c 'import json, sys
a, b = map(json.loads, sys.argv[1:])
sys.exit(not all(b[k] > a[k] + 2 for k in a))' "$1" "$(state)"
}
goes_on() { # LABEL
	local before
	before=$(state)
	until_true 100 moved "$before" || bad "$1: it does not go on: $before, $(state) $(tail -n 5 "$OUTPUT")"
	grep wrong "$OUTPUT" && bad "$1: it complains"
}
goes_on "before"
again "once"
goes_on "once"
again "twice" --compress zstd:1
goes_on "twice"
stopped "at the end" kill_tree
finish
