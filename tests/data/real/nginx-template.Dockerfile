FROM nginx:1.27-alpine
COPY <<'EOF' /etc/nginx/conf.d/default.conf
server {
    listen 80;
    location / {
        proxy_set_header Host $host;
        try_files $uri $uri/ /index.html;
    }
}
EOF
COPY --chown=nginx:nginx dist/ /usr/share/nginx/html/
EXPOSE 80/tcp 443/tcp
STOPSIGNAL SIGQUIT
