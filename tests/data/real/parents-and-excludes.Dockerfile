# syntax=docker/dockerfile:1
FROM node:20 AS deps
WORKDIR /app
COPY --parents ./package.json ./packages/*/package.json ./
COPY --parents --exclude=**/*.test.ts packages/./**/*.ts /flat/
COPY --exclude=node_modules --exclude=!node_modules/keep . .
