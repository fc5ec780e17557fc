"""A gateway process on a port of its own, for tests in Python."""

import json
import subprocess


class GatewayProcess:
    """with GatewayProcess(petrel) as gateway: ... gateway.url"""

    def __init__(self, petrel, *args):
        self.command = [petrel, "gateway", "--listen", "127.0.0.1:0", "--store", ":memory:",
                        "--json", *args]

    def __enter__(self):
        self.process = subprocess.Popen(self.command, stdout=subprocess.PIPE,
                                        stderr=subprocess.DEVNULL, text=True)
        for line in self.process.stdout:
            event = json.loads(line)
            if event.get("event") == "listening":
                self.url = event["url"]
                return self
        raise RuntimeError(f"the gateway ended: {self.process.wait()}")

    def __exit__(self, *_):
        self.process.terminate()
        try:
            self.process.wait(30)
        finally:
            self.process.kill()
            self.process.wait()
            self.process.stdout.close()
