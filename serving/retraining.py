"""Runs the pipeline on a Kubernetes cluster: copies of the RayJobs that lie there suspended.

``python -m serving.retraining features train-trend …`` is what the CronJob ``retrain`` does. One
job after the other; the first that fails ends it. Everything a job is made of stands in the
cluster, so that kustomize alone says what runs.
"""

from __future__ import annotations

import argparse
import re
import ssl
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from domain.errors import CheckFailed, ConclaveError, NotFound, ServiceUnreachable, UsageError
from domain.ports import Clock
from domain.times import iso
from serving.system import SystemClock

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
SERVER = "https://kubernetes.default.svc"
STEP = "conclave/step"  # label of a copy: the job it was made from
KEPT = 3  # copies of each job that stay to be looked at
NAME_MOST = 47  # characters of a RayJob's name that KubeRay accepts
PATIENCE = 20  # answers in a row that may fail while a job runs: the API server restarts too
ENDED = ("Complete", "Failed", "ValidationFailed")

Say = Callable[[str], None]
Manifest = dict[str, Any]


class Cluster:
    """The RayJobs of one namespace.

    Parameters
    ----------
    account : folder with ``token``, ``ca.crt`` and ``namespace`` as Kubernetes mounts it.

    Every method raises ServiceUnreachable if the API does not answer or refuses.
    """

    def __init__(self, server: str, account: Path) -> None:
        def bearer(request: httpx.Request) -> httpx.Request:
            # read each time: Kubernetes renews it within the hour
            token = (account / "token").read_text(encoding="ascii").strip()
            request.headers["Authorization"] = f"Bearer {token}"
            return request

        authority = account / "ca.crt"
        self.namespace = (account / "namespace").read_text(encoding="ascii").strip()
        self._path = f"/apis/ray.io/v1/namespaces/{self.namespace}/rayjobs"
        self._client = httpx.Client(
            base_url=server,
            auth=bearer,
            timeout=30.0,
            verify=ssl.create_default_context(cafile=authority) if authority.is_file() else True,
        )

    def get(self, name: str) -> Manifest:
        """Return a RayJob; raise NotFound if there is none of that name."""
        return self._ask("GET", f"/{name}")

    def copies(self, step: str) -> list[Manifest]:
        """Return the copies of a job, oldest first."""
        found = self._ask("GET", f"?labelSelector={STEP}%3D{step}")["items"]
        return sorted(found, key=lambda job: str(job["metadata"]["name"]))

    def create(self, job: Manifest) -> None:
        """Make a RayJob."""
        self._ask("POST", "", job)

    def delete(self, name: str) -> None:
        """Remove a RayJob and what belongs to it."""
        self._ask("DELETE", f"/{name}?propagationPolicy=Background")

    def _ask(self, method: str, rest: str, body: Manifest | None = None) -> Manifest:
        try:
            reply = self._client.request(method, self._path + rest, json=body)
        except httpx.HTTPError as error:
            raise ServiceUnreachable(
                "the Kubernetes API", f"does not answer: {error}", str(self._client.base_url)
            ) from error
        if reply.status_code == httpx.codes.NOT_FOUND:
            raise NotFound("RayJob", f"is none in namespace {self.namespace}", rest.strip("/"))
        if reply.is_error:
            raise ServiceUnreachable(
                "the Kubernetes API", f"refuses {method}: {_message(reply)}", reply.status_code
            )
        return dict(reply.json())


@dataclass(frozen=True, slots=True)
class Pipeline:
    """Makes copies and waits for them.

    Attributes
    ----------
    sleep : waits so many seconds.
    every_s : time between two looks at a running job, seconds.
    """

    cluster: Cluster
    clock: Clock
    sleep: Callable[[float], None]
    say: Say
    every_s: float = 15.0

    def run(self, steps: Sequence[str]) -> None:
        """Run the steps in their order.

        Raises
        ------
        CheckFailed : if a job fails; the steps after it are not begun.
        NotFound : if the cluster has no such job; nothing is begun.
        ServiceUnreachable : if the Kubernetes API stays away.
        """
        stamp = re.sub(r"[-:Z]|\.\d+", "", iso(self.clock.now())).lower()
        copies = [copy_of(self.cluster.get(step), stamp) for step in steps]
        for step, copy in zip(steps, copies, strict=True):
            self._tidy(step)
            self.cluster.create(copy)
            self._wait(copy["metadata"]["name"])

    def _wait(self, name: str) -> None:
        told, failures = "", 0
        while True:
            try:
                status = self.cluster.get(name).get("status", {})
                failures = 0
            except ServiceUnreachable:
                failures += 1
                if failures >= PATIENCE:
                    raise
                status = {}
            state = str(status.get("jobDeploymentStatus", told))
            if state != told:
                self.say(f"{name}: {state}")
                told = state
            if state in ENDED:
                return _require_success(name, status)
            self.sleep(self.every_s)

    def _tidy(self, step: str) -> None:
        done = [
            job["metadata"]["name"]
            for job in self.cluster.copies(step)
            if job.get("status", {}).get("jobDeploymentStatus") in ENDED
        ]
        for name in done[: max(0, len(done) - KEPT + 1)]:  # the one to come counts too
            self.cluster.delete(name)


def copy_of(job: Manifest, stamp: str) -> Manifest:
    """Return a RayJob that runs, made from one that is suspended.

    Raises
    ------
    UsageError : if the name with the stamp would be longer than KubeRay accepts.
    """
    step = str(job["metadata"]["name"])
    name = f"{step}-{stamp}"
    if len(name) > NAME_MOST:
        raise UsageError("RayJob", f"names must leave room for -{stamp}: {NAME_MOST} in all", step)
    labels = {**job["metadata"].get("labels", {}), STEP: step}
    return {
        "apiVersion": job["apiVersion"],
        "kind": job["kind"],
        "metadata": {"name": name, "labels": labels},
        "spec": {**job["spec"], "suspend": False},
    }


def _require_success(name: str, status: Manifest) -> None:
    if status.get("jobStatus") == "SUCCEEDED":
        return
    why = status.get("message") or status.get("reason") or status.get("jobStatus") or "no reason"
    raise CheckFailed(
        name,
        f"did not succeed: {why}",
        hint=f"kubectl logs -l ray.io/originated-from-cr-name={name}",
    )


def _message(reply: httpx.Response) -> str:
    try:
        return str(reply.json().get("message", reply.reason_phrase))
    except ValueError:
        return reply.reason_phrase


def main(argv: list[str] | None = None) -> int:
    """Run the pipeline from the command line; return the exit code."""
    parser = argparse.ArgumentParser(prog="serving.retraining", description=__doc__)
    parser.add_argument("steps", nargs="+", help="names of RayJobs, in the order to run them")
    parser.add_argument("--server", default=SERVER, help="of the Kubernetes API")
    parser.add_argument("--account", type=Path, default=ACCOUNT, help="folder of the token")
    parser.add_argument("--every", type=float, default=15.0, help="seconds between two looks")
    arguments = parser.parse_args(argv)

    def say(line: str) -> None:
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()

    try:
        cluster = Cluster(arguments.server, arguments.account)
        Pipeline(cluster, SystemClock(), time.sleep, say, arguments.every).run(arguments.steps)
    except ConclaveError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    except OSError as error:
        sys.stderr.write(f"error: {error.filename}: {error.strerror}; run this in a pod\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
