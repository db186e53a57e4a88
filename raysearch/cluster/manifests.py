"""The keys of the Kubernetes manifests that a search on KubeRay needs (ray.io/v1, KubeRay 1.6).

Written after the public references of KubeRay's and Kubernetes' APIs.
"""

from collections.abc import Iterator, Mapping
from typing import Any

# Each kind has its keys; what stands behind a colon is the kind of the value, or of its items.
KINDS = {
    "RayJob": "apiVersion kind metadata:ObjectMeta spec:RayJobSpec",
    "RayCluster": "apiVersion kind metadata:ObjectMeta spec:RayClusterSpec",
    "PersistentVolumeClaim": "apiVersion kind metadata:ObjectMeta spec:PersistentVolumeClaimSpec",
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
    "HeadGroupSpec": "enableIngress headService labels rayStartParams resources serviceType "
    "template:PodTemplateSpec",
    "WorkerGroupSpec": "groupName idleTimeoutSeconds labels maxReplicas minReplicas numOfHosts "
    "priority rayStartParams replicas resources scaleStrategy suspend template:PodTemplateSpec",
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
    "ResourceRequirements": "claims limits requests",
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
}


MANIFESTS = [kind for kind, keys in KINDS.items() if keys.startswith("apiVersion")]


def unknown_in_manifest(document: Mapping[str, Any]) -> Iterator[tuple[str, str, set[str]]]:
    """Yield where an unknown key stands, the key, and the valid ones, in one of `MANIFESTS`."""
    yield from _unknown(document, document["kind"], document["kind"])


def _unknown(value: Any, kind: str, where: str) -> Iterator[tuple[str, str, set[str]]]:
    if isinstance(value, list):
        for number, item in enumerate(value):
            yield from _unknown(item, kind, f"{where}[{number}]")
    if not isinstance(value, dict):
        return
    known = dict(key.partition(":")[::2] for key in KINDS[kind].split())
    for key, inner in value.items():
        if key not in known:
            yield where, key, set(known)
        elif known[key]:
            yield from _unknown(inner, known[key], f"{where}.{key}")
