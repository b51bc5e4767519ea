ARG AIRFLOW_EXTRAS="aiobotocore,amazon,async"
ARG AIRFLOW_UID="50000"
ARG BASE_IMAGE="debian:bookworm-slim"
FROM scratch AS scripts
COPY <<"EOF" /install_os.sh
#!/usr/bin/env bash
set -euo pipefail
echo "${1:-none} $(id -u)"
EOF
FROM ${BASE_IMAGE} AS main
SHELL ["/bin/bash", "-o", "pipefail", "-o", "errexit", "-o", "nounset", "-o", "nolog", "-c"]
ARG AIRFLOW_UID
ENV AIRFLOW_UID=${AIRFLOW_UID} \
    ADDITIONAL=""
COPY --from=scripts install_os.sh /scripts/docker/
RUN bash /scripts/docker/install_os.sh dev
USER ${AIRFLOW_UID}
ENTRYPOINT ["/usr/bin/dumb-init", "--", "/entrypoint"]
CMD []
