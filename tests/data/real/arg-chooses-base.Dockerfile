ARG DEBUG
ARG FLAVOUR=linux
FROM alpine:3.20 AS app-linux
RUN apk add --no-cache ca-certificates
FROM app-linux AS app-linux-debug
COPY --chmod=755 <<EOF /docker-entrypoint.sh
#!/bin/sh
exec debugger exec /usr/bin/app \\
  --listen 0.0.0.0:\${DEBUG_PORT:-5000} \\
  -- "\$@"
EOF
ENV DEBUG_PORT 5000
ENTRYPOINT ["/docker-entrypoint.sh"]
FROM app-$FLAVOUR${DEBUG:+-debug} AS app
