#!/usr/bin/env python3
"""Fifty real nodes on one machine: how soon they know each other, how soon a death is known, and
what each costs at rest. Prints a table, with the bars of each figure.

  tests/bench/fifty.py [--nodes 50] [--quiet-seconds 60] [--interval 30s] [--json]

Needs a release build (cargo build --release), or HALE_BIN. Everything runs on loopback, in a
directory of its own, and is stopped by its pid.
"""
import argparse, json, os, shutil, signal, socket, statistics, subprocess, sys, tempfile, time
import urllib.request

def free_port(kind):
    with socket.socket(socket.AF_INET, kind) as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]

class Node:
    def __init__(self, n, top, hale, interval):
        self.n, self.hale, self.interval = n, hale, interval
        self.dir = os.path.join(top, f"n{n}")
        self.udp, self.http = free_port(socket.SOCK_DGRAM), free_port(socket.SOCK_STREAM)
        self.log, self.process = open(os.path.join(top, f"n{n}.log"), "w"), None

    def args(self):
        return ["--data-dir", self.dir, "--bind", f"127.0.0.1:{self.udp}", "--host", f"host-{self.n}"]

    def start(self, words, token=None):
        env = dict(os.environ, **({"HALE_JOIN_TOKEN": token} if token else {}))
        line = [self.hale, *words, *self.args(), "--listen", f"127.0.0.1:{self.http}", "--interval", self.interval]
        self.process = subprocess.Popen(line, env=env, stdout=self.log, stderr=self.log)

    def get(self, path, timeout=3):
        with open(os.path.join(self.dir, "api.token")) as f:
            token = f.read().strip()
        ask = urllib.request.Request(f"http://127.0.0.1:{self.http}{path}", headers={"Authorization": f"Bearer {token}"})
        with urllib.request.urlopen(ask, timeout=timeout) as answer:
            return answer.read().decode()

    def states(self):
        try:
            members = json.loads(self.get("/v1/members?consistency=stale"))["members"]
        except (OSError, ValueError):
            return {}
        return {m["host"]: m["state"] for m in members}

    def metrics(self):
        out = {}
        for line in self.get("/metrics", 10).splitlines():
            if line and not line.startswith("#"):
                name, value = line.rsplit(" ", 1)
                out[name] = float(value)
        return out

    def cpu_seconds(self):
        with open(f"/proc/{self.process.pid}/stat") as f:
            fields = f.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def resident_mb(self):
        with open(f"/proc/{self.process.pid}/status") as f:
            return next(int(l.split()[1]) / 1024 for l in f if l.startswith("VmRSS"))

def wait(what, holds, bound):
    began = time.monotonic()
    while not holds():
        if time.monotonic() - began > bound:
            sys.exit(f"in vain within {bound} s: {what}")
        time.sleep(0.25)
    return time.monotonic() - began

def pick(figures):
    figures = sorted(figures)
    return {"min": round(figures[0], 3), "median": round(statistics.median(figures), 3), "max": round(figures[-1], 3)}

def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--nodes", type=int, default=50)
    p.add_argument("--quiet-seconds", type=int, default=60)
    p.add_argument("--interval", default="30s")
    p.add_argument("--json", action="store_true")
    a = p.parse_args()
    root = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
    hale = os.environ.get("HALE_BIN", os.path.join(root, "target", "release", "hale"))
    if not os.access(hale, os.X_OK):
        sys.exit(f"there is no {hale}; run: cargo build --release")
    top = tempfile.mkdtemp(prefix="hale-fifty-")
    nodes = [Node(n, top, hale, a.interval) for n in range(a.nodes)]
    try:
        return measure(nodes, hale, a)
    finally:
        for n in nodes:
            if n.process and n.process.poll() is None:
                n.process.kill()
        for n in nodes:
            if n.process:
                n.process.wait()
        shutil.rmtree(top, ignore_errors=True)

def measure(nodes, hale, a):
    first = nodes[0]
    subprocess.run([hale, "init", *first.args()], check=True, stdout=subprocess.DEVNULL)
    first.start(["node"])
    made = []
    def token():
        done = subprocess.run([hale, "token", "create", "--uses", "1000", "--json", "--data-dir", first.dir], capture_output=True)
        if done.returncode == 0:
            made.append(json.loads(done.stdout)["token"])
        return bool(made)
    wait("a token", token, 30)
    began = time.monotonic()
    seed = f"127.0.0.1:{first.udp}"
    for n in nodes[1:]:
        n.start(["join", seed], made[0])
    everyone = lambda ns: all(list(n.states().values()).count("alive") == len(nodes) for n in ns)
    wait("all know all", lambda: everyone(nodes[-1:]) and everyone(nodes), 300)
    formed = time.monotonic() - began
    figures = {"nodes": len(nodes), "formed_seconds": round(formed, 1)}
    wait("five voters", lambda: len([v for v in json.loads(first.get("/v1/voters"))["voters"] if v["seat"] in ("leader", "voter")]) == min(5, len(nodes)), 120)
    time.sleep(30)
    before = [(n.cpu_seconds(), n.metrics()) for n in nodes]
    t0 = time.monotonic()
    time.sleep(a.quiet_seconds)
    took = time.monotonic() - t0
    cpu, rss, packets, connections = [], [], [], []
    sent = 'hale_gossip_packets_total{direction="out"}'
    for n, (cpu0, m0) in zip(nodes, before):
        cpu.append((n.cpu_seconds() - cpu0) / took * 100)
        m = n.metrics()
        rss.append(n.resident_mb())
        packets.append((m[sent] - m0[sent]) / took)
        connections.append(m["hale_connections"])
    figures |= {"cpu_percent": pick(cpu), "resident_mb": pick(rss), "gossip_packets_per_second": pick(packets), "connections": pick(connections)}
    dead = nodes.pop(len(nodes) // 2)
    dead.process.send_signal(signal.SIGKILL)
    dead.process.wait()
    began = time.monotonic()
    name = f"host-{dead.n}"
    wait("all know the death", lambda: all(n.states().get(name) == "down" for n in nodes), 120)
    figures["death_known_seconds"] = round(time.monotonic() - began, 1)
    if a.json:
        print(json.dumps(figures))
        return 0
    print(f"{figures['nodes']} nodes, sensors every {a.interval}, {a.quiet_seconds} s at rest")
    print(f"  all know all           {figures['formed_seconds']:8.1f} s    (bar 30 s)")
    print(f"  all know a death       {figures['death_known_seconds']:8.1f} s    (bar 10 s)")
    for label, key, unit in [("CPU, one core", "cpu_percent", "%"), ("resident memory", "resident_mb", "MB"), ("gossip packets sent", "gossip_packets_per_second", "/s"), ("open connections", "connections", "")]:
        f = figures[key]
        print(f"  {label:<22} {f['median']:8.2f} {unit:<4} (min {f['min']:.2f}, max {f['max']:.2f})")
    return 0

sys.exit(main())
