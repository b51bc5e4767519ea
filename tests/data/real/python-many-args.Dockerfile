ARG CUDA_VERSION=12.4.1
ARG PYTHON_VERSION=3.12
ARG BUILD_BASE=nvidia/cuda:${CUDA_VERSION}-devel-ubuntu22.04
ARG PIP_INDEX_URL
ARG UV_INDEX_URL=${PIP_INDEX_URL}
FROM ${BUILD_BASE} AS base
ARG PIP_INDEX_URL UV_INDEX_URL
ARG torch_cuda_arch_list='7.0 7.5 8.0+PTX'
ENV TORCH_CUDA_ARCH_LIST=${torch_cuda_arch_list}
SHELL ["/bin/bash", "-c"]
RUN --mount=type=bind,source=.git,target=.git if [ -n "$X" ]; then check; fi
RUN --mount=type=cache,target=/root/.cache/uv uv pip install -r requirements.txt
ENTRYPOINT python3 -m server
