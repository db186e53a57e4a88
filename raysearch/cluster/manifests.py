"""The keys of the Kubernetes manifests that a search on KubeRay needs (ray.io/v1, KubeRay 1.6).

Written after the public references of KubeRay's and Kubernetes' APIs.
"""

import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from raysearch.errors import closest

# The kinds that a document may be of, and the version that each has to name.
MANIFESTS = {
    "RayJob": "ray.io/v1",
    "RayCluster": "ray.io/v1",
    "PersistentVolumeClaim": "v1",
    "Pod": "v1",
    "NetworkPolicy": "networking.k8s.io/v1",
}

# Each kind has its keys; what stands behind a colon is the kind of the value, or of its items.
KINDS = {
    "RayJob": "apiVersion kind metadata:ObjectMeta spec:RayJobSpec",
    "RayCluster": "apiVersion kind metadata:ObjectMeta spec:RayClusterSpec",
    "PersistentVolumeClaim": "apiVersion kind metadata:ObjectMeta spec:PersistentVolumeClaimSpec",
    "Pod": "apiVersion kind metadata:ObjectMeta spec:PodSpec",
    "NetworkPolicy": "apiVersion kind metadata:ObjectMeta spec:NetworkPolicySpec",
    "ObjectMeta": "name generateName namespace labels annotations finalizers",
    "RayJobSpec": "activeDeadlineSeconds backoffLimit clusterSelector deletionStrategy entrypoint "
    "entrypointNumCpus entrypointNumGpus entrypointResources jobId managedBy metadata "
    "preRunningDeadlineSeconds rayClusterSpec:RayClusterSpec runtimeEnvYAML "
    "shutdownAfterJobFinishes submissionMode submitterConfig:SubmitterConfig "
    "submitterPodTemplate:PodTemplateSpec suspend ttlSecondsAfterFinished",
    "SubmitterConfig": "backoffLimit",
    "RayClusterSpec": "authOptions:AuthOptions autoscalerOptions:AutoscalerOptions "
    "enableInTreeAutoscaling gcsFaultToleranceOptions headGroupSpec:HeadGroupSpec "
    "headServiceAnnotations managedBy rayVersion suspend upgradeStrategy "
    "workerGroupSpecs:WorkerGroupSpec",
    "AuthOptions": "mode secretName enableK8sTokenAuth",
    "AutoscalerOptions": "env:EnvVar envFrom idleTimeoutSeconds image imagePullPolicy "
    "resources:ResourceRequirements securityContext:SecurityContext upscalingMode version "
    "volumeMounts:VolumeMount",
    "HeadGroupSpec": "enableIngress headService labels rayStartParams:RayStartParams resources "
    "serviceType template:PodTemplateSpec",
    "WorkerGroupSpec": "groupName idleTimeoutSeconds labels maxReplicas minReplicas numOfHosts "
    "priority rayStartParams:RayStartParams replicas resources scaleStrategy suspend "
    "template:PodTemplateSpec",
    "PodTemplateSpec": "metadata:ObjectMeta spec:PodSpec",
    "PodSpec": "activeDeadlineSeconds affinity automountServiceAccountToken containers:Container "
    "dnsConfig dnsPolicy enableServiceLinks ephemeralContainers hostAliases hostIPC hostNetwork "
    "hostPID hostUsers hostname hostnameOverride imagePullSecrets initContainers:Container "
    "nodeName nodeSelector os overhead preemptionPolicy priority priorityClassName readinessGates "
    "resourceClaims resources:ResourceRequirements restartPolicy runtimeClassName schedulerName "
    "schedulingGates securityContext:PodSecurityContext serviceAccount serviceAccountName "
    "setHostnameAsFQDN shareProcessNamespace subdomain terminationGracePeriodSeconds "
    "tolerations:Toleration topologySpreadConstraints volumes:Volume",
    "Container": "args command env:EnvVar envFrom image imagePullPolicy lifecycle livenessProbe "
    "name ports:ContainerPort readinessProbe resizePolicy resources:ResourceRequirements "
    "restartPolicy restartPolicyRules securityContext:SecurityContext startupProbe stdin stdinOnce "
    "terminationMessagePath terminationMessagePolicy tty volumeDevices volumeMounts:VolumeMount "
    "workingDir",
    "ContainerPort": "containerPort hostIP hostPort name protocol",
    "EnvVar": "name value valueFrom:EnvVarSource",
    "EnvVarSource": "configMapKeyRef:KeyRef fieldRef fileKeyRef resourceFieldRef "
    "secretKeyRef:KeyRef",
    "KeyRef": "key name optional",
    "ResourceRequirements": "claims limits:Amounts requests:Amounts",
    "Amounts": "cpu memory ephemeral-storage storage nvidia.com/gpu amd.com/gpu",
    "Capabilities": "add drop",
    "SecurityContext": "allowPrivilegeEscalation appArmorProfile capabilities:Capabilities "
    "privileged procMount readOnlyRootFilesystem runAsGroup runAsNonRoot runAsUser "
    "seLinuxOptions seccompProfile:SeccompProfile windowsOptions",
    "PodSecurityContext": "appArmorProfile fsGroup fsGroupChangePolicy runAsGroup runAsNonRoot "
    "runAsUser seLinuxChangePolicy seLinuxOptions seccompProfile:SeccompProfile supplementalGroups "
    "supplementalGroupsPolicy sysctls windowsOptions",
    "SeccompProfile": "localhostProfile type",
    "Toleration": "effect key operator tolerationSeconds value",
    "VolumeMount": "mountPath mountPropagation name readOnly recursiveReadOnly subPath subPathExpr",
    "Volume": "awsElasticBlockStore azureDisk azureFile cephfs cinder configMap csi downwardAPI "
    "emptyDir:EmptyDir ephemeral fc flexVolume flocker gcePersistentDisk gitRepo glusterfs "
    "hostPath image iscsi name nfs:Nfs persistentVolumeClaim:ClaimSource photonPersistentDisk "
    "portworxVolume projected quobyte rbd scaleIO secret:SecretSource storageos vsphereVolume",
    "EmptyDir": "medium sizeLimit",
    "Nfs": "path readOnly server",
    "ClaimSource": "claimName readOnly",
    "SecretSource": "defaultMode items optional secretName",
    "PersistentVolumeClaimSpec": "accessModes dataSource dataSourceRef "
    "resources:ResourceRequirements selector storageClassName volumeAttributesClassName volumeMode "
    "volumeName",
    "NetworkPolicySpec": "egress:NetworkPolicyEgressRule ingress:NetworkPolicyIngressRule "
    "podSelector:LabelSelector policyTypes",
    "NetworkPolicyEgressRule": "ports:NetworkPolicyPort to:NetworkPolicyPeer",
    "NetworkPolicyIngressRule": "from:NetworkPolicyPeer ports:NetworkPolicyPort",
    "NetworkPolicyPeer": "ipBlock:IPBlock namespaceSelector:LabelSelector "
    "podSelector:LabelSelector",
    "NetworkPolicyPort": "endPort port protocol",
    "IPBlock": "cidr except",
    "LabelSelector": "matchExpressions:LabelSelectorRequirement matchLabels",
    "LabelSelectorRequirement": "key operator values",
}

# What Kubernetes refuses to be without, and what a search or its safety is lost without.
REQUIRED = {
    **dict.fromkeys(MANIFESTS, "metadata spec"),
    "RayJobSpec": "entrypoint rayClusterSpec",
    "RayClusterSpec": "authOptions headGroupSpec",
    "AuthOptions": "mode",
    "HeadGroupSpec": "template",
    "WorkerGroupSpec": "groupName template",
    "PodTemplateSpec": "spec",
    "PodSpec": "containers",
    "Container": "name image",
    "PersistentVolumeClaimSpec": "accessModes resources",
    "NetworkPolicySpec": "podSelector",
    "IPBlock": "cidr",
}

# Keys whose values are of one type wherever they stand.
INTEGERS = (
    "activeDeadlineSeconds backoffLimit containerPort defaultMode endPort fsGroup hostPort "
    "idleTimeoutSeconds maxReplicas minReplicas numOfHosts preRunningDeadlineSeconds replicas "
    "runAsGroup runAsUser terminationGracePeriodSeconds tolerationSeconds "
    "ttlSecondsAfterFinished"
)
BOOLEANS = (
    "allowPrivilegeEscalation enableInTreeAutoscaling hostIPC hostNetwork hostPID privileged "
    "readOnly readOnlyRootFilesystem runAsNonRoot shutdownAfterJobFinishes suspend"
)
AMOUNT = re.compile(r"[0-9]+(\.[0-9]+)?(m|k|[KMGTPE]i|[MGTPE])?")  # such as 500m and 16Gi
OTHERS = ("hugepages-", "nvidia.com/mig-")  # Resources that are named by their size.


def faults_in_manifest(document: Mapping[str, Any]) -> Iterator[str]:
    """Yield a sentence for each unknown or missing key and wrong value of one of `MANIFESTS`."""
    kind = document["kind"]
    if document.get("apiVersion") != MANIFESTS[kind]:
        yield f"apiVersion: {document.get('apiVersion')!r} must be {MANIFESTS[kind]!r}"
    yield from _faults(document, kind, kind)


def _faults(value: Any, kind: str, where: str) -> Iterator[str]:
    if isinstance(value, list):
        for number, item in enumerate(value):
            yield from _faults(item, kind, f"{where}[{number}]")
        return
    known = _keys(kind)
    if not isinstance(value, dict):
        yield f"{where}: {value!r} must be keys and values. Valid: {', '.join(sorted(known))}."
        return
    for key in REQUIRED.get(kind, "").split():
        if value.get(key) in (None, "", []):
            yield f"{where}: '{key}' is missing; cluster/kuberay.yaml shows what to write"
    for key, inner in value.items():
        if key not in known and not (kind == "Amounts" and str(key).startswith(OTHERS)):
            yield f"{where}: unknown key '{key}'. {closest(str(key), known)}"
        elif inner is not None and known.get(key):
            yield from _faults(inner, known[key], f"{where}.{key}")
        elif inner is not None and (expected := _expected(kind, key, inner)):
            yield f"{where}.{key}: {inner!r} must be {expected}"


@cache
def _keys(kind: str) -> dict[str, str]:
    """Return the keys of a kind, with the kind of each value, if it has one."""
    if kind == "RayStartParams":
        from ray.scripts.scripts import start

        options = (option for one in start.params for option in one.opts)
        return {option.removeprefix("--"): "" for option in options}
    return dict(key.partition(":")[::2] for key in KINDS[kind].split())


def _expected(kind: str, key: str, value: Any) -> str:
    """Say what a value has to be that is not; empty where nothing is wrong with it."""
    if key in INTEGERS.split() and type(value) is not int:
        return "a whole number"
    if key in BOOLEANS.split() and not isinstance(value, bool):
        return "true or false"
    if kind == "RayStartParams" and not isinstance(value, str):
        return f'a text: "{value}"'
    if kind == "Amounts" and not AMOUNT.fullmatch(str(value)):
        return "an amount such as 2, 500m or 16Gi"
    if (kind, key) == ("AuthOptions", "mode") and value != "token":
        return "'token', or anyone may run code on the cluster"
    return ""
