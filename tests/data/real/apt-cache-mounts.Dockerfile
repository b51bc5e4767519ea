FROM ubuntu:24.04
ARG DEBIAN_FRONTEND=noninteractive
RUN rm -f /etc/apt/apt.conf.d/docker-clean; echo 'Binary::apt::APT::Keep-Downloaded-Packages "true";' > /etc/apt/apt.conf.d/keep-cache
RUN --mount=type=cache,sharing=locked,id=x-aptlib,target=/var/lib/apt \
    --mount=type=cache,sharing=locked,id=x-aptcache,target=/var/cache/apt \
        apt-get update && apt-get install -y --no-install-recommends git
