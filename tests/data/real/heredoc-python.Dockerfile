FROM python:3.12
RUN <<EOT
#!/usr/bin/env python3
print("built with a shebang")
EOT
RUN python3 <<EOT
print("piped")
EOT
RUN <<EOF1 cat > /a && cat <<EOF2 > /b
one $HOME
EOF1
two
EOF2
COPY <<-EOT /etc/app.conf
	key = ${VALUE:-default}
	EOT
