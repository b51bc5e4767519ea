FROM ubuntu:14.04
MAINTAINER Jane Doe "jane@example.org"
ENV REFRESHED_AT 2014-07-01
RUN apt-get -yqq update
RUN apt-get -yqq install nginx
ADD ./nginx.conf /etc/nginx/nginx.conf
EXPOSE 80
CMD /usr/sbin/nginx -g "daemon off;"
