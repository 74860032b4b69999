{{/* A pod that reads the same configuration and model as the workers, and does one thing: root, name, args. */}}
{{- define "worker.onePodSpec" -}}
restartPolicy: Never
serviceAccountName: {{ include "worker.serviceAccountName" .root }}
automountServiceAccountToken: false
{{- with .root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  {{- include "worker.podSecurity" .root | nindent 2 }}
{{- if eq .root.Values.model.source "image" }}
initContainers:
  {{- include "worker.copyModel" .root | nindent 2 }}
{{- end }}
containers:
  - name: {{ .name }}
    image: {{ include "worker.image" .root }}
    imagePullPolicy: {{ .root.Values.image.pullPolicy }}
    args:
      {{- toYaml .args | nindent 6 }}
    env:
      {{- include "worker.env" .root | nindent 6 }}
    resources:
      {{- toYaml .root.Values.resources | nindent 6 }}
    securityContext:
      {{- include "worker.containerSecurity" .root | nindent 6 }}
    volumeMounts:
      {{- include "worker.mounts" .root | nindent 6 }}
volumes:
  {{- include "worker.volumes" .root | nindent 2 }}
  {{- if eq .root.Values.state.storage "claimTemplate" }}
  - name: state
    emptyDir: {}
  {{- end }}
{{- end -}}
