# syntax=docker/dockerfile:1
ARG GO_VERSION=1.22
ARG ALPINE_VERSION=3.20
FROM --platform=$BUILDPLATFORM example/xx:1.4 AS xx
FROM --platform=$BUILDPLATFORM golang:${GO_VERSION}-alpine${ALPINE_VERSION} AS gobase
COPY --link --from=xx / /
FROM gobase AS version
RUN --mount=target=. \
  VERSION=$(git describe --always) \
  && echo "-X main.version=${VERSION}" | tee /tmp/.ldflags; \
  echo -n "${VERSION}" | tee /tmp/.version;
FROM gobase AS binary
ARG TARGETPLATFORM
WORKDIR /src
RUN --mount=target=. --mount=target=/root/.cache,type=cache \
  --mount=source=/tmp/.ldflags,target=/tmp/.ldflags,from=version <<EOT
  set -ex
  xx-go build -ldflags "$(cat /tmp/.ldflags)" -o /usr/bin/tool ./cmd/tool
  if [ "$(xx-info os)" = "linux" ]; then /usr/bin/tool --version; fi
EOT
FROM scratch AS binaries-linux
COPY --link --from=binary /usr/bin/tool /
FROM scratch AS binaries-windows
COPY --link --from=binary /usr/bin/tool /tool.exe
FROM binaries-$TARGETOS AS binaries
FROM --platform=$BUILDPLATFORM alpine:${ALPINE_VERSION} AS releaser
WORKDIR /work
ARG TARGETPLATFORM
RUN --mount=from=binaries \
  --mount=source=/tmp/.version,target=/tmp/.version,from=version \
  tar czf "/out-$(echo $TARGETPLATFORM | tr / -).tgz" .
FROM scratch
COPY --from=releaser /out-* /
