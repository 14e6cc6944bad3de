"""What the checks are worth: each of these mistakes in the manifests must be found and named."""

from __future__ import annotations

from typing import Any

import pytest

from tests.cluster_rules import builtin_problems, invalid, problems
from tests.kuberay_rules import operator_problems
from tests.manifests import Object, named, one, rendered
from tests.mistakes import Mistake, table

RAY = ("RayService", "RayJob")

BREAKS_A_RULE = table(r"""
# pods
a pod runs as root | desk pod.securityContext.runAsNonRoot = false | not root
a container runs as root | desk box.securityContext.runAsUser = 0 | not root
Ray's workers run as anybody | serve worker.template.spec.securityContext.runAsUser del | not root
capabilities stay | desk box.securityContext.capabilities = {} | drop ALL
a capability is added | redis box.securityContext.capabilities.add = [NET_ADMIN] | drop ALL
the autoscaler keeps its capabilities | serve ray.autoscalerOptions.securityContext del \
 | the autoscaler must drop ALL
privileges can be gained \
 | train trainer.template.spec.containers.0.securityContext.allowPrivilegeEscalation = true \
 | gain privileges
the root filesystem is writable | desk box.securityContext.readOnlyRootFilesystem del | read-only
seccomp is off | desk pod.securityContext.seccompProfile.type = Unconfined | seccomp
the fsGroup is gone | train trainer.template.spec.securityContext.fsGroup del | fsGroup
the host's network is used | desk pod.hostNetwork = true | hostNetwork
limits are missing | desk box.resources.limits del | limits of cpu and memory
a request is missing | serve head.template.spec.containers.0.resources.requests.memory del \
 | requests of cpu and memory
an image floats | desk box.image = conclave-infer:latest | exact tag
an image has no tag | postgres box.image = postgres | exact tag
a host folder is mounted | desk pod.volumes += {name: host, hostPath: {path: /}} | is a hostPath
a mount has no volume | desk pod.volumes.0 del | which is no volume of it
a volume hides the application | desk box.volumeMounts.0.mountPath = /app | over the application
an emptyDir is unbounded | desk pod.volumes.4.emptyDir = {} | sizeLimit
service links are on | desk pod.enableServiceLinks del | enableServiceLinks
workers get a token | serve worker.template.spec.automountServiceAccountToken = true \
 | automountServiceAccountToken: false
the head lost its token | serve head.template.spec.automountServiceAccountToken = false \
 | automountServiceAccountToken: true
the default account is used | desk pod.serviceAccountName = default | default service account
an account is gone | ServiceAccount/conclave-workload gone | uses the service account
a probe is gone | desk box.livenessProbe del | liveness probes
Ray's own probe is overridden \
 | serve worker.template.spec.containers.0.readinessProbe = {tcpSocket: {port: 8000}} \
 | leave its probes to KubeRay
training runs anywhere | train trainer.template.spec.nodeSelector del | must run where role=ml

# secrets
trading keys reach the agents \
 | serve worker.template.spec.containers.0.envFrom += {secretRef: {name: conclave-trading}} \
 | must not see the Secret conclave-trading
trading keys reach submitted jobs \
 | train trainer.template.spec.containers.0.envFrom += {secretRef: {name: conclave-trading}} \
 | must not see the Secret conclave-trading
training sees the database \
 | train trainer.template.spec.containers.0.envFrom += {secretRef: {name: conclave-database}} \
 | must not see the Secret conclave-database
a token stands in a pod | desk box.env.4 = {name: API_TOKEN, value: abcdef} | come from a Secret
a token stands in the ConfigMap | config data.API_TOKEN = 0123456789abcdef | is a secret
a password stands in the ConfigMap | config data.SYMBOLS = 'postgresql://u:pw@h/d' \
 | holds a password
a setting is misspelt | config data.SIMBOLS = BTC/USDT | is no setting
live trading is switched on | config data.LIVE_MODE = 'true' | on paper
models lie beside their volume | config data.MODELS_DIR = /srv/models | MODELS_DIR must lie on
the API is open without a token | serve worker.template.spec.containers.0.env.2 del \
 | without an API_TOKEN
a Secret is misspelt | desk box.env.3.valueFrom.secretKeyRef.name = conclave-db | which is nowhere

# access
a role allows everything | Role/conclave-retrain rules.0.verbs = ['*'] | allow everything
a role reads secrets | Role/conclave-retrain rules.0.resources = [secrets] | must not reach
a role makes pods | Role/conclave-serve rules.0.verbs = [get, create] | must not change pods
a role is of the whole cluster | Role/conclave-serve kind = ClusterRole | must not be applied
a Secret is applied | Service/conclave-redis kind = Secret | must not be applied
a cluster's role is bound | RoleBinding/conclave-serve roleRef.kind = ClusterRole | bind a Role
a stranger is bound | RoleBinding/conclave-serve subjects.0.namespace = default | of the namespace
pod security is lax | Namespace/ml metadata.labels = {} | restricted pod security
an object is elsewhere | desk metadata.namespace = default | must be in namespace ml

# network
nothing denies | NetworkPolicy/deny-all gone | none denies everything
the deny-all lets egress pass | NetworkPolicy/deny-all spec.egress = [{to: [{podSelector: {}}]}] \
 | none denies everything
a rule names nobody | NetworkPolicy/serve-in spec.ingress.0.from del | lets everybody through
a rule lets the namespace in | NetworkPolicy/redis spec.ingress.0.from = [{podSelector: {}}] \
 | empty selector
rules without their type | NetworkPolicy/train spec.policyTypes = [Ingress] | policyTypes leave out
training reaches the exchange \
 | train trainer.template.metadata.labels.conclave/egress = exchange | must not reach the exchange
the desk cannot reach the exchange | desk spec.template.metadata.labels.conclave/egress del \
 | must reach the exchange
the way out reaches the cluster | NetworkPolicy/exchange spec.egress.0.to.0.ipBlock.except del \
 | except private networks
the way out has no port | NetworkPolicy/exchange spec.egress.0.ports del | one port
training reaches the ledger | NetworkPolicy/database \
spec.ingress.0.from.0.podSelector.matchExpressions.0.values += train | port 5432 must be for
HAProxy's replicas are cut off | NetworkPolicy/serve-inside spec.ingress.0.ports = [{port: 8000}] \
 | every port must be open
a policy selects nothing | NetworkPolicy/desk spec.podSelector.matchLabels = {app: desk} \
 | NetworkPolicy/desk: selects no pod
the route leads to the dashboard \
 | route spec.rules.0.http.paths.0.backend.service.port.number = 8265 | conclave-serve-svc:8000 only
the route has no TLS | route spec.tls del | needs TLS
the database is published | Service/conclave-postgres spec.type = NodePort | reached from outside
a service leads nowhere | Service/conclave-redis spec.selector = {app: redis} | selects no pod

# availability
Ray's budget cannot be counted \
 | PodDisruptionBudget/conclave-serve-workers spec.minAvailable = 50% | whole number of minAvailable
the workers have no budget | PodDisruptionBudget/conclave-serve-workers gone \
 | has no PodDisruptionBudget
a budget covers nothing \
 | PodDisruptionBudget/conclave-redis spec.selector.matchLabels = {app: x} | selects no pod
the desk is doubled | desk spec.replicas = 2 | one at a time
the desk rolls | desk spec.strategy.type = RollingUpdate | one at a time
a claim is renamed | PersistentVolumeClaim/ml-logs-pvc metadata.name = logs | must be ['ml-data-pvc'

# Ray
the head takes work | serve head.rayStartParams.num-cpus = '1' | schedule nothing
the head serves | serve spec.excludeHeadPodFromServeSvc = false | head must not serve
the head forgets | serve ray.gcsFaultToleranceOptions del | state in Redis
Redis has no password | serve ray.gcsFaultToleranceOptions.redisPassword del | state in Redis
the autoscaler is old | serve ray.autoscalerOptions.version = v1 | autoscaler v2
Ray's version is another | serve ray.rayVersion = 2.55.0 | as in the image
Ray asks for no token | train spec.rayClusterSpec.authOptions.mode = disabled | ask for the token
the head is a node port | serve head.serviceType = NodePort | not be reached from outside
shared memory is a disk | serve worker.template.spec.volumes.5.emptyDir.medium del | must be memory
the object store is too large | serve worker.rayStartParams.object-store-memory = '1073741824' \
 | fit into /dev/shm
a deployment may land on the head | serve spec.serveConfigV2 s/num_cpus: 0.25/num_cpus: 0/ \
 | must reserve CPUs
more CPUs are wanted than there are | serve spec.serveConfigV2 s/num_cpus: 0.5/num_cpus: 4/ \
 | CPUs of 2
only the head proxies | serve spec.serveConfigV2 s/EveryNode/HeadOnly/ | on every node
Serve listens on loopback | serve spec.serveConfigV2 s/host: 0.0.0.0/host: 127.0.0.1/ \
 | must listen on
the council takes few requests | serve spec.serveConfigV2 s/requests: 256/requests: 16/ \
 | 256 requests at once

# schedules
a job starts when it is applied | train spec.suspend = false | must lie there suspended
a job may run for ever | train spec.activeDeadlineSeconds del | needs activeDeadlineSeconds
a job runs on the head | train spec.entrypointNumCpus del | must reserve a CPU
a job's command is expanded elsewhere | train spec.entrypoint = conclave train --data $(ls /mnt) \
 | would expand its entrypoint
a job is gone | RayJob/train-risk gone | RayJob: must be
the schedule is none | retrain spec.schedule = weekly | schedule weekly is none
two retrainings at once | retrain spec.concurrencyPolicy = Allow | not run twice
the pipeline is out of order \
 | retrain spec.jobTemplate.spec.template.spec.containers.0.args = [train-trend, features] \
 | in its order
inference beside the desk | inference spec.suspend = false | suspended while a desk runs
neither desk nor inference | desk spec.replicas = 0 | suspended while a desk runs
""")

REFUSED = table(r"""
a field of the pod is misspelt | desk pod.securityContext.runAsNonRooot = true | schema
a port is a word | Service/conclave-redis spec.ports.0.port = redis | schema
a kind is misspelt | Role/conclave-serve kind = Rolle | schema
an API version is old | PodDisruptionBudget/conclave-desk apiVersion = policy/v1beta1 | schema
a CronJob's field is misspelt | retrain spec.schedul = 0 3 * * 0 | schema
restart policies with autoscaler v2 | serve worker.template.spec.restartPolicy = Always \
 | restartPolicy must be Never
a RayService's name is too long \
 | serve metadata.name = a-name-of-forty-eight-characters-which-is-one-much | at most 47
a RayJob's name begins with a digit | train metadata.name = 1-train | DNS-1035
Redis in the environment \
 | serve head.template.spec.containers.0.env += {name: RAY_REDIS_ADDRESS, value: r} \
 | belongs into gcsFaultToleranceOptions
the password of Redis as a parameter | serve head.rayStartParams.redis-password = x \
 | belongs into gcsFaultToleranceOptions
tokens with an old Ray | serve ray.rayVersion = 2.51.0 | 2.52.0 or newer
a suspended job that stays | train spec.shutdownAfterJobFinishes = false \
 | must have shutdownAfterJobFinishes
a sidecar with a template | train spec.submissionMode = SidecarMode \
 | takes no submitterPodTemplate
an unknown upgrade | serve spec.upgradeStrategy.type = RollingUpdate | upgradeStrategy.type
a time-out in words \
 | serve metadata.annotations = {ray.io/initializing-timeout: soon} | must be a duration
""")

UNFIT = table(r"""
a field of RayService is misspelt | serve spec.serveConfigV3 = x | schema
a field of RayCluster is misspelt | serve ray.enableInTreeAutoscalling = true | schema
a start parameter is a number | serve head.rayStartParams.num-cpus = 0 | schema
replicas are a word | serve worker.replicas = two | schema
an unknown way to authenticate | serve ray.authOptions.mode = password | schema
a RayJob has the other kind's cluster | train spec.rayClusterConfig = {} | schema
a container has no name | train trainer.template.spec.containers.0.name del | schema
""")

BREAKS_SEVERAL_NODES = table(r"""
an agent has one replica | serve spec.serveConfigV2 s/replicas: 2/replicas: 1/ | outlive a node
two replicas share a node | serve spec.serveConfigV2 s/per_node: 1/per_node: 2/ | outlive a node
the desk runs away from its volume | desk pod.nodeSelector del | without being sent there
serving pods mount a node's volume | serve worker.template.spec.volumes \
+= {name: d, persistentVolumeClaim: {claimName: ml-data-pvc}} | without being sent there
""")


def each(rows: list[Mistake]) -> Any:
    ids = [row.title.replace(" ", "-") for row in rows]
    return pytest.mark.parametrize("mistake", rows, ids=ids)


def changed(overlay: str, mistake: Mistake) -> list[Object]:
    objects = rendered(overlay)
    mistake.make(objects)
    return objects


@each(BREAKS_A_RULE)
def test_rules_when_a_manifest_has_a_mistake_then_they_name_it(mistake: Mistake) -> None:
    found = problems(changed("k3s-single", mistake))

    assert any(mistake.told in problem for problem in found), found


@each(BREAKS_SEVERAL_NODES)
def test_rules_when_there_are_several_nodes_then_what_one_holds_binds(mistake: Mistake) -> None:
    found = problems(changed("k3s-multi", mistake))

    assert any(mistake.told in problem for problem in found), found


@pytest.mark.long
@each(REFUSED)
def test_operator_and_schemas_when_a_manifest_is_refused_then_it_is_known_before(
    mistake: Mistake,
) -> None:
    found = [
        problem
        for body in changed("k3s-single", mistake)
        for problem in (operator_problems if body["kind"] in RAY else builtin_problems)(body)
    ]

    assert any(mistake.told in problem for problem in found), found


@pytest.mark.long
@each(UNFIT)
def test_kuberay_schemas_when_a_manifest_does_not_fit_then_they_name_it(mistake: Mistake) -> None:
    objects = changed("k3s-single", mistake)
    rays = [one(objects, "RayService", "conclave"), one(objects, "RayJob", "train-trend")]

    assert any(mistake.told in problem for problem in invalid(rays))


def test_mistakes_when_they_are_made_then_every_kind_is_among_them() -> None:
    before = {named(body): body for body in rendered("k3s-single")}
    touched = set()
    for mistake in (*BREAKS_A_RULE, *REFUSED, *UNFIT):
        after = {named(body): body for body in changed("k3s-single", mistake)}
        touched |= {name.split("/")[0] for name in before if before[name] != after.get(name)}

    assert {body["kind"] for body in rendered("k3s-single")} == touched
