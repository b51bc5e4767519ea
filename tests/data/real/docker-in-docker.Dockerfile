FROM docker:27-dind
RUN set -eux; addgroup -S dockremap; echo 'dockremap:165536:65536' >> /etc/subuid
RUN apk add --no-cache iptables
VOLUME /var/lib/docker
EXPOSE 2375 2376
ENTRYPOINT ["dockerd-entrypoint.sh"]
CMD []
