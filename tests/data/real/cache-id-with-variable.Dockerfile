ARG TARGETPLATFORM
FROM debian:bookworm AS base
ARG TARGETPLATFORM
RUN \
    --mount=type=cache,id=${TARGETPLATFORM}-/var/cache,target=/var/cache,sharing=locked \
    --mount=type=tmpfs,target=/var/log \
    set -eux; \
    case "${RAILS_ENV}" in \
        development) exit 0;; \
        *) \
            echo precompile; \
        ;; \
    esac;
