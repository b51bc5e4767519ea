ARG REGISTRY=quay.io
ARG OWNER=jupyter
ARG BASE_IMAGE=$REGISTRY/$OWNER/base-notebook
FROM $BASE_IMAGE
LABEL maintainer="A Team <team@example.org>"
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
USER root
RUN apt-get update --yes && \
    apt-get install --yes --no-install-recommends \
    # common useful utilities
    curl \
    nano-tiny && \
    apt-get clean && rm -rf /var/lib/apt/lists/*
USER ${NB_UID}
