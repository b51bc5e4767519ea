FROM debian:bookworm-slim
RUN groupadd -r -g 999 redis && useradd -r -g redis -u 999 redis
ENV GOSU_VERSION 1.17
RUN set -eux; \
	savedAptMark="$(apt-mark showmanual)"; \
	dpkgArch="$(dpkg --print-architecture | awk -F- '{ print $NF }')"; \
	case "$dpkgArch" in \
		'amd64') url='https://example.org/gosu-amd64'; sha256='bb' ;; \
		*) echo >&2 "error: unsupported '$dpkgArch'"; exit 1 ;; \
	esac; \
	[ -z "$savedAptMark" ] || apt-mark manual $savedAptMark > /dev/null
RUN mkdir /data && chown redis:redis /data
VOLUME /data
WORKDIR /data
COPY docker-entrypoint.sh /usr/local/bin/
ENTRYPOINT ["docker-entrypoint.sh"]
EXPOSE 6379
CMD ["redis-server"]
