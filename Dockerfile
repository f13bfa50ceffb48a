# One image for the three services and for the demo's model servers; Envoy comes from its own, official image.
FROM python:3.11-slim-bookworm AS build
WORKDIR /src
RUN python -m venv /opt/isg
COPY requirements.containers.lock ./
RUN /opt/isg/bin/pip install --no-cache-dir --require-hashes -r requirements.containers.lock
COPY pyproject.toml README.md ./
COPY gateway gateway
COPY control_plane control_plane
COPY ext_authz ext_authz
COPY ext_proc ext_proc
COPY backends backends
# Editable: the demo's models lie beside the code that serves them.
RUN /opt/isg/bin/pip install --no-cache-dir --no-deps --no-build-isolation --editable . \
 && /opt/isg/bin/python -m backends.train

FROM python:3.11-slim-bookworm
# The control plane asks a real Envoy before it pushes a configuration.
COPY --from=envoyproxy/envoy:v1.40.0 /usr/local/bin/envoy /usr/local/bin/envoy
COPY --from=build /opt/isg /opt/isg
COPY --from=build /src /src
ENV PATH=/opt/isg/bin:$PATH PYTHONUNBUFFERED=1 ISG_STATE=/state ISG_CONFIG=/etc/isg/gateway.yaml
# A new volume mounted here takes over owner and mode: the sockets are for this user only.
RUN install -d -o 10001 -g 10001 -m 0700 /state
USER 10001:10001
ENTRYPOINT ["isg"]
CMD ["--help"]
