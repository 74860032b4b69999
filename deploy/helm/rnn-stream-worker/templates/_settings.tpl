{{/* The worker's configuration: what the values say, and the paths that follow from model and state. */}}
{{- define "worker.config" -}}
{{- $config := deepCopy .Values.config -}}
{{- $model := default (dict) $config.model -}}
{{- if not (hasKey $model "path") -}}
{{- $path := printf "/model/%s" .Values.model.fileName -}}
{{- if eq .Values.model.source "url" -}}
{{- $path = required "model.url: name the file, such as s3://bucket/model.keras#SHA-256" .Values.model.url -}}
{{- end -}}
{{- $_ := set $model "path" $path -}}
{{- end -}}
{{- $_ := set $config "model" $model -}}
{{- $state := default (dict) $config.state -}}
{{- if not (hasKey $state "directory") -}}
{{- if eq .Values.state.storage "none" -}}
{{- fail "config.state.directory: with state.storage none, name a URL, such as s3://bucket/prefix" -}}
{{- end -}}
{{- $_ := set $state "directory" "/state" -}}
{{- end -}}
{{- $_ := set $config "state" $state -}}
{{- toYaml $config -}}
{{- end -}}

{{- define "worker.port" -}}
{{- dig "http" "port" 9100 .Values.config | int -}}
{{- end -}}

{{- define "worker.volumes" -}}
- name: config
  configMap:
    name: {{ include "worker.fullname" . }}
{{- with .Values.model }}
{{- if eq .source "configMap" }}
- name: model
  configMap:
    name: {{ default (printf "%s-model" (include "worker.fullname" $)) .configMap.name }}
{{- else if eq .source "image" }}
- name: model
  emptyDir: {}
{{- else if eq .source "claim" }}
- name: model
  persistentVolumeClaim:
    claimName: {{ required "model.claim.name: name the PersistentVolumeClaim that holds the model" .claim.name }}
    readOnly: true
{{- end }}
{{- end }}
{{- if eq .Values.state.storage "claim" }}
- name: state
  persistentVolumeClaim:
    claimName: {{ required "state.claimName: name the PersistentVolumeClaim for checkpoints" .Values.state.claimName }}
{{- else if eq .Values.state.storage "emptyDir" }}
- name: state
  emptyDir:
    sizeLimit: {{ .Values.state.size }}
{{- end }}
- name: tmp
  emptyDir:
    sizeLimit: {{ .Values.state.tmpSize }}
{{- range .Values.secretFiles }}
- name: secret-{{ .name }}
  secret:
    secretName: {{ .name }}
    defaultMode: 0440
{{- end }}
{{- end -}}

{{- define "worker.mounts" -}}
- name: config
  mountPath: /config
  readOnly: true
{{- if ne .Values.model.source "url" }}
- name: model
  mountPath: /model
  readOnly: true
{{- if and (eq .Values.model.source "claim") .Values.model.claim.subPath }}
  subPath: {{ .Values.model.claim.subPath }}
{{- end }}
{{- end }}
{{- if ne .Values.state.storage "none" }}
- name: state
  mountPath: /state
{{- end }}
- name: tmp
  mountPath: /tmp
{{- range .Values.secretFiles }}
- name: secret-{{ .name }}
  mountPath: {{ .mountPath }}
  readOnly: true
{{- end }}
{{- end -}}

{{- define "worker.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{- define "worker.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "worker.env" -}}
- name: POD_NAME
  valueFrom:
    fieldRef:
      fieldPath: metadata.name
- name: TF_NUM_INTRAOP_THREADS
  valueFrom:
    resourceFieldRef:
      resource: requests.cpu
{{- with .Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "worker.copyModel" -}}
- name: copy-model
  image: {{ required "model.image.reference: name the image that holds the model" .Values.model.image.reference }}
  imagePullPolicy: {{ .Values.model.image.pullPolicy }}
  command: [cp, {{ .Values.model.image.path | quote }}, {{ printf "/model/%s" .Values.model.fileName | quote }}]
  resources:
    requests: {cpu: 10m, memory: 64Mi}
    limits: {memory: 64Mi}
  securityContext:
    {{- include "worker.containerSecurity" . | nindent 4 }}
  volumeMounts:
    - name: model
      mountPath: /model
{{- end -}}
