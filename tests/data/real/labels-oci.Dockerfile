FROM alpine:3.20
ARG VERSION=dev
ARG REVISION
LABEL org.opencontainers.image.title="thing" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision=$REVISION \
      org.opencontainers.image.description="A thing that \
does things"
