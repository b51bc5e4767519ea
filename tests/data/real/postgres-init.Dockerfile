FROM postgres:16
ENV POSTGRES_DB app
ENV POSTGRES_USER app
ENV POSTGRES_PASSWORD_FILE /run/secrets/db
COPY docker-entrypoint-initdb.d/*.sql /docker-entrypoint-initdb.d/
VOLUME ["/var/lib/postgresql/data"]
HEALTHCHECK CMD pg_isready -U "$POSTGRES_USER" || exit 1
