"""What must hold between the objects of the cluster: network, access, availability, schedules."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import kubernetes_validate
import ray
import yaml

from serving.settings.names import from_environment, is_secret
from tests.kuberay_rules import operator_problems, schema_problems
from tests.manifests import Object, named, of, one, pods, ray_cluster, selects
from tests.pod_rules import pod_problems

KUBERNETES = "1.33"
OLDEST = "1.30"  # that docs/deployment.md names
RAY = ("RayService", "RayJob")
PRIVATE = {"10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16"}
OUTWARD = {"Deployment/conclave-desk", "RayJob/fetch workers train"}  # may reach an exchange
PIPELINE = (
    "fetch", "features", "train-trend", "train-return", "train-risk", "train-chronos", "train-gate",
)  # fmt: skip
COMING: frozenset[str] = frozenset()  # no command for these yet
BY_HAND = frozenset({"train-gate"})  # a council that takes no side leaves nothing to judge
SERVICE, PORT = "conclave-serve-svc", 8000
CRON = re.compile(r"(\*|\*/[1-9]\d?|[\d,-]+)( (\*|\*/[1-9]\d?|[\d,-]+)){4}")


def problems(objects: list[Object]) -> list[str]:
    """Everything that is wrong with a cluster's objects; an empty list if nothing is."""
    found = [*pod_problems(objects)]
    for rules in (
        _network, _reach, _access, _budgets, _ray, _serve, _schedules, _route, _config, _storage,
    ):  # fmt: skip
        found += rules(objects)
    return found


def invalid(objects: list[Object]) -> list[str]:
    """What the schemas and the operator would refuse."""
    found: list[str] = []
    for body in objects:
        if body["kind"] in RAY:
            found += schema_problems(body)
            found += operator_problems(body)
        else:
            found += builtin_problems(body)
    return found


def builtin_problems(body: Object, version: str = KUBERNETES) -> Iterator[str]:
    try:
        kubernetes_validate.validate(body, version, strict=True)
    except kubernetes_validate.ValidationError as error:
        yield f"{named(body)}: schema: {error.message[:200]}"
    except kubernetes_validate.SchemaNotFoundError as error:
        yield f"{named(body)}: schema: {error.message}"


# Network


def _network(objects: list[Object]) -> Iterator[str]:
    policies = of(objects, "NetworkPolicy")
    everything = [p for p in policies if not p["spec"]["podSelector"]]
    if not any(
        set(p["spec"].get("policyTypes", [])) == {"Ingress", "Egress"}
        and not p["spec"].get("ingress") and not p["spec"].get("egress")
        for p in everything
    ):  # fmt: skip
        yield "NetworkPolicy: none denies everything to every pod"
    labels = [pod.labels for pod in pods(objects)]
    for policy in policies:
        spec = policy["spec"]
        if spec["podSelector"] and not any(selects(spec["podSelector"], one) for one in labels):
            yield f"{named(policy)}: selects no pod"
        for side, peers in (("ingress", "from"), ("egress", "to")):
            if side in spec and side.capitalize() not in spec.get("policyTypes", []):
                yield f"{named(policy)}: has {side} rules that its policyTypes leave out"
            for rule in spec.get(side) or []:
                yield from _rule(named(policy), rule, peers)


def _rule(policy: str, rule: Object, peers: str) -> Iterator[str]:
    if not rule.get(peers):
        yield f"{policy}: a rule without {peers} lets everybody through"
        return
    for peer in rule[peers]:
        if not peer or any(not value for value in peer.values()):
            yield f"{policy}: an empty selector lets everybody through"
        block = peer.get("ipBlock")
        if block is None or block["cidr"] not in ("0.0.0.0/0", "::/0"):
            continue
        ports = {port.get("port") for port in rule.get("ports", [])}
        if ports == {443} and not set(block.get("except", [])) >= PRIVATE:
            yield f"{policy}: the way out must except private networks"
        if not ports or not ports <= {443, 6443}:
            yield f"{policy}: the way out must be one port"


def _reach(objects: list[Object]) -> Iterator[str]:
    """Who may talk to whom, as the policies say together."""
    policies = of(objects, "NetworkPolicy")
    for pod in pods(objects):
        mine = [p["spec"] for p in policies if selects(p["spec"]["podSelector"], pod.labels)]
        out = [
            peer
            for spec in mine
            for rule in spec.get("egress") or []
            for peer in rule.get("to", [])
            if 443 in {entry["port"] for entry in rule.get("ports", [])}
            and peer.get("ipBlock", {}).get("cidr") == "0.0.0.0/0"
        ]
        if bool(out) != (pod.where in OUTWARD):
            yield f"{pod.where}: {'must not reach' if out else 'must reach'} the exchange"
    for port, component, callers in (
        (5432, "database", {"serve", "desk", "inference"}),
        (6379, "redis", {"serve"}),
    ):
        allowed = _callers(objects, component, port)
        if allowed != callers:
            yield f"NetworkPolicy: port {port} must be for {sorted(callers)}, not {sorted(allowed)}"
    inside = _ports_inside(policies)
    if inside is not None:
        yield f"NetworkPolicy: between Ray's pods every port must be open, not {inside}"


def _callers(objects: list[Object], component: str, port: int) -> set[str]:
    found = set()
    for policy in of(objects, "NetworkPolicy"):
        spec = policy["spec"]
        if not spec["podSelector"] or not selects(
            spec["podSelector"], {"app.kubernetes.io/component": component}
        ):
            continue
        for rule in spec.get("ingress") or []:
            if port in {entry.get("port") for entry in rule.get("ports", [])}:
                found |= {
                    pod.component for pod in pods(objects) for peer in rule.get("from", [])
                    if "podSelector" in peer and selects(peer["podSelector"], pod.labels)
                }  # fmt: skip
    return found


def _ports_inside(policies: list[Object]) -> Any:
    """The ports between serving pods; None if all, replicas of HAProxy mode included."""
    serve = {"app.kubernetes.io/component": "serve"}
    narrow: Any = "none"
    for policy in policies:
        spec = policy["spec"]
        if spec["podSelector"].get("matchLabels") == serve:
            for rule in spec.get("ingress") or []:
                if {"podSelector": {"matchLabels": serve}} in rule.get("from", []):
                    if "ports" not in rule:
                        return None
                    narrow = rule["ports"]
    return narrow


# Access


def _access(objects: list[Object]) -> Iterator[str]:
    for body in objects:
        if body["kind"] in ("ClusterRole", "ClusterRoleBinding", "Secret"):
            yield f"{named(body)}: must not be applied"
    for role in of(objects, "Role"):
        for rule in role["rules"]:
            words = {*rule["apiGroups"], *rule["resources"], *rule["verbs"]}
            if "*" in words:
                yield f"{named(role)}: must not allow everything"
            if {"secrets", "pods/exec", "roles", "rolebindings"} & words:
                yield f"{named(role)}: must not reach {sorted(words)}"
            if "pods" in rule["resources"] and set(rule["verbs"]) - {"get", "list", "watch"}:
                yield f"{named(role)}: must not change pods"
    for binding in of(objects, "RoleBinding"):
        if binding["roleRef"]["kind"] != "Role":
            yield f"{named(binding)}: must bind a Role of the namespace"
        for subject in binding["subjects"]:
            if subject["kind"] != "ServiceAccount" or subject.get("namespace") != "ml":
                yield f"{named(binding)}: must bind a service account of the namespace"
    space = one(objects, "Namespace", "ml")
    level = space["metadata"].get("labels", {}).get("pod-security.kubernetes.io/enforce")
    if level != "restricted":
        yield f"Namespace/ml: must enforce the restricted pod security standard, not {level}"


def _config(objects: list[Object]) -> Iterator[str]:
    for body in of(objects, "ConfigMap"):
        for name, value in body["data"].items():
            key = from_environment(name)
            if key is None:
                yield f"{named(body)}: {name} is no setting"
            elif is_secret(key):
                yield f"{named(body)}: {name} is a secret"
            if re.search(r"://[^/\s]*:[^/\s]*@", str(value)):
                yield f"{named(body)}: {name} holds a password"
        if body["data"].get("LIVE_MODE") != "false" or body["data"].get("PAPER_MODE") != "true":
            yield f"{named(body)}: must trade on paper"


# Availability


def _budgets(objects: list[Object]) -> Iterator[str]:
    covered = set()
    for budget in of(objects, "PodDisruptionBudget"):
        spec, found = budget["spec"], 0
        for pod in pods(objects):
            if selects(spec["selector"], pod.labels):
                found += 1
                covered.add(pod.where)
                rays = pod.owner.split("/")[0] in RAY
                if rays and not isinstance(spec.get("minAvailable"), int):
                    yield f"{named(budget)}: Ray's pods need a whole number of minAvailable"
        if not found:
            yield f"{named(budget)}: selects no pod"
    for pod in pods(objects):
        lasting = pod.owner.split("/")[0] in (*RAY, "Deployment", "StatefulSet")
        if lasting and pod.part != "submitter" and pod.where not in covered:
            yield f"{pod.where}: has no PodDisruptionBudget"
    desk = one(objects, "Deployment", "conclave-desk")["spec"]
    if desk["replicas"] not in (0, 1) or desk["strategy"]["type"] != "Recreate":
        yield "Deployment/conclave-desk: one at a time, replaced and not doubled"


def _storage(objects: list[Object]) -> Iterator[str]:
    """On volumes that one node holds, whoever mounts them must be sent to that node."""
    several = max(
        group["replicas"] for body in of(objects, "RayService")
        for group in ray_cluster(body)["workerGroupSpecs"]
    ) > 1  # fmt: skip
    single = any(
        "ReadWriteOnce" in body["spec"]["accessModes"]
        for body in of(objects, "PersistentVolumeClaim")
    )
    for pod in pods(objects):
        mounts = any("persistentVolumeClaim" in v for v in pod.spec.get("volumes", []))
        if several and single and mounts and pod.spec.get("nodeSelector") != {"role": "ml"}:
            yield f"{pod.where}: mounts a volume of one node without being sent there"


# Ray


def _ray(objects: list[Object]) -> Iterator[str]:
    for body in objects:
        if body["kind"] not in RAY:
            continue
        cluster = ray_cluster(body)
        head = cluster["headGroupSpec"]
        if head["rayStartParams"].get("num-cpus") != "0":
            yield f"{named(body)}: the head must schedule nothing (num-cpus 0)"
        if head.get("serviceType", "ClusterIP") != "ClusterIP":
            yield f"{named(body)}: the head must not be reached from outside"
        if cluster.get("rayVersion") != ray.__version__:
            yield f"{named(body)}: rayVersion must be {ray.__version__}, as in the image"
        auth = cluster.get("authOptions", {})
        if auth.get("mode") != "token" or auth.get("secretName") != "conclave-ray-token":
            yield f"{named(body)}: Ray must ask for the token in conclave-ray-token"
        for pod in (head, *cluster["workerGroupSpecs"]):
            yield from _shared_memory(named(body), pod)
    service = one(objects, "RayService", "conclave")["spec"]
    if service.get("excludeHeadPodFromServeSvc") is not True:
        yield "RayService/conclave: the head must not serve"
    cluster = service["rayClusterConfig"]
    tolerance = cluster.get("gcsFaultToleranceOptions", {})
    if not tolerance.get("redisAddress") or "valueFrom" not in tolerance.get("redisPassword", {}):
        yield "RayService/conclave: the head must keep its state in Redis, with a password"
    if cluster.get("autoscalerOptions", {}).get("version") != "v2":
        yield "RayService/conclave: needs autoscaler v2"
    context = cluster.get("autoscalerOptions", {}).get("securityContext", {})
    if context.get("capabilities") != {"drop": ["ALL"]}:
        yield "RayService/conclave: the autoscaler must drop ALL capabilities too"


def _shared_memory(owner: str, group: Object) -> Iterator[str]:
    spec = group["template"]["spec"]
    mounts = {m["mountPath"]: m["name"] for m in spec["containers"][0].get("volumeMounts", [])}
    volume = next((v for v in spec["volumes"] if v["name"] == mounts.get("/dev/shm")), {})
    store = int(group["rayStartParams"].get("object-store-memory", 0))
    size = str(volume.get("emptyDir", {}).get("sizeLimit", "0Mi"))
    if volume.get("emptyDir", {}).get("medium") != "Memory":
        yield f"{owner}: /dev/shm must be memory"
    elif not 0 < store <= memory_of(size):
        yield f"{owner}: the object store must fit into /dev/shm"


def _serve(objects: list[Object]) -> Iterator[str]:
    owner = "RayService/conclave: serveConfigV2"
    config = serve_config(objects)
    if config.get("proxy_location") != "EveryNode":
        yield f"{owner}: a proxy must run on every node"
    http = config.get("http_options", {})
    if http.get("host") != "0.0.0.0" or http.get("port") != PORT:
        yield f"{owner}: must listen on 0.0.0.0:{PORT}"
    workers = ray_cluster(one(objects, "RayService", "conclave"))["workerGroupSpecs"]
    replicas = sum(group["replicas"] for group in workers)
    wanted = 0.0
    for deployment in config["applications"][0]["deployments"]:
        cpus = deployment.get("ray_actor_options", {}).get("num_cpus", 0)
        wanted += cpus * deployment["num_replicas"]
        if not cpus > 0:
            yield f"{owner}: {deployment['name']} must reserve CPUs, or it may land on the head"
        spread = deployment.get("max_replicas_per_node") == 1
        if replicas > 1 and (deployment["num_replicas"] < 2 or not spread):
            yield f"{owner}: {deployment['name']} must outlive a node: two replicas, one a node"
        if deployment["name"] == "council" and deployment["max_ongoing_requests"] < 256:
            yield f"{owner}: the council must take 256 requests at once"
    offered = sum(
        group["replicas"]
        * float(group["template"]["spec"]["containers"][0]["resources"]["limits"]["cpu"])
        for group in workers
    )
    if wanted > offered + 1e-9:
        yield f"{owner}: needs {wanted:g} CPUs of {offered:g}"


def serve_config(objects: list[Object]) -> Object:
    text = one(objects, "RayService", "conclave")["spec"]["serveConfigV2"]
    return dict(yaml.safe_load(text))


# Schedules and the way in


def _schedules(objects: list[Object]) -> Iterator[str]:
    jobs = [body["metadata"]["name"] for body in of(objects, "RayJob")]
    if sorted(jobs) != sorted(PIPELINE):
        yield f"RayJob: must be {sorted(PIPELINE)}, not {sorted(jobs)}"
    for body in of(objects, "RayJob"):
        if body["spec"].get("suspend") is not True:
            yield f"{named(body)}: must lie there suspended"
        for field in ("activeDeadlineSeconds", "ttlSecondsAfterFinished", "backoffLimit"):
            if field not in body["spec"]:
                yield f"{named(body)}: needs {field}"
        if not body["spec"].get("entrypointNumCpus", 0) > 0:
            yield f"{named(body)}: must reserve a CPU, or it runs on the head"
        if re.search(r"[$`;|&<>*]", body["spec"]["entrypoint"]):
            yield f"{named(body)}: the submitter's shell would expand its entrypoint"
    for body in of(objects, "CronJob"):
        if not CRON.fullmatch(body["spec"]["schedule"]):
            yield f"{named(body)}: schedule {body['spec']['schedule']} is none"
        if body["spec"].get("concurrencyPolicy") != "Forbid":
            yield f"{named(body)}: must not run twice at once"
    retrain = one(objects, "CronJob", "retrain")["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    steps = retrain["containers"][0]["args"]
    if steps != [step for step in PIPELINE if step not in COMING | BY_HAND]:
        yield f"CronJob/retrain: must run the pipeline in its order, not {steps}"
    desk = one(objects, "Deployment", "conclave-desk")["spec"]["replicas"]
    waits = bool(one(objects, "CronJob", "run-inference")["spec"].get("suspend"))
    if bool(desk) != waits:
        yield "CronJob/run-inference: must be suspended while a desk runs, and only then"


def _route(objects: list[Object]) -> Iterator[str]:
    for ingress in of(objects, "Ingress"):
        spec = ingress["spec"]
        for rule in spec["rules"]:
            for path in rule["http"]["paths"]:
                backend = path["backend"]["service"]
                if (backend["name"], backend["port"].get("number")) != (SERVICE, PORT):
                    yield f"{named(ingress)}: may lead to {SERVICE}:{PORT} only"
        hosts = {host for entry in spec.get("tls", []) for host in entry["hosts"]}
        if {rule.get("host") for rule in spec["rules"]} - hosts:
            yield f"{named(ingress)}: needs TLS, for tokens pass through it"
    for service in of(objects, "Service"):
        if service["spec"].get("type", "ClusterIP") != "ClusterIP":
            yield f"{named(service)}: must not be reached from outside"
        if not any(selects({"matchLabels": service["spec"]["selector"]}, pod.labels)
                   for pod in pods(objects)):  # fmt: skip
            yield f"{named(service)}: selects no pod"


def memory_of(text: str) -> int:
    """Return bytes: ``512Mi``, ``4Gi``."""
    units = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30}
    return int(text[:-2]) * units[text[-2:]]
