FROM composer:2 AS vendor
COPY composer.* /app/
RUN composer install --no-dev --no-scripts --prefer-dist
FROM php:8.3-fpm-alpine
ENV PHP_OPCACHE_VALIDATE=0 PHP_MEMORY="256M"
RUN set -xe \
	&& apk add --no-cache --virtual .build-deps $PHPIZE_DEPS icu-dev \
	&& docker-php-ext-install intl \
	&& apk del .build-deps
COPY --from=vendor --chown=www-data:www-data /app/vendor/ /var/www/vendor/
COPY php.ini /usr/local/etc/php/conf.d/
STOPSIGNAL SIGQUIT
EXPOSE 9000
CMD ["php-fpm"]
