FROM node:20
RUN --mount=type=secret,id=npmrc,target=/root/.npmrc,required=true npm ci
RUN --mount=type=secret,id=sentry,env=SENTRY_AUTH_TOKEN npx sentry-cli releases new
