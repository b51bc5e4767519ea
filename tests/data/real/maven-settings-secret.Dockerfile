FROM maven:3.9-eclipse-temurin-21 AS build
WORKDIR /src
COPY pom.xml .
RUN --mount=type=secret,id=settings,target=/root/.m2/settings.xml --mount=type=cache,target=/root/.m2/repository mvn -B dependency:go-offline
COPY src src
RUN --mount=type=cache,target=/root/.m2/repository mvn -B package
FROM eclipse-temurin:21-jre-alpine
COPY --from=build /src/target/*.jar /app.jar
VOLUME /tmp
ENTRYPOINT exec java $JAVA_OPTS -jar /app.jar
