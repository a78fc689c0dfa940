# pgsso in a container: built in one stage, run from another that has no compiler, no test tools and no root.
# The target `demo` has the OpenID provider and the story of docker-compose.yml; the default target is pgsso alone.
ARG NODE_IMAGE=node:22-bookworm-slim

FROM ${NODE_IMAGE} AS build
WORKDIR /app
COPY package.json package-lock.json ./
RUN npm ci --ignore-scripts
COPY . .
RUN npm run build

FROM build AS demo
RUN install --directory --owner=node --group=node --mode=0700 /shared
USER node
ENTRYPOINT ["node", "--no-warnings", "build/demo/containers.js"]

FROM ${NODE_IMAGE} AS runtime
WORKDIR /app
ENV NODE_ENV=production
COPY package.json package-lock.json ./
RUN npm ci --omit=dev --ignore-scripts && npm cache clean --force
COPY --from=build /app/build/src build/src
# the settings: the one place that is written to, so the rest may be read-only
RUN install --directory --owner=node --group=node --mode=0700 /var/lib/pgsso
VOLUME /var/lib/pgsso
USER node
ENV PGSSO_DATA_DIR=/var/lib/pgsso \
    PGSSO_LISTEN=0.0.0.0:26257
EXPOSE 26257
STOPSIGNAL SIGTERM
ENTRYPOINT ["node", "/app/build/src/cli.js"]
CMD ["serve"]
