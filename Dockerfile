# Built in one stage, run in another: no compiler, no pip cache and no source in what is shipped.
FROM python:3.13.9-slim-trixie AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY instrumentation instrumentation
COPY exporter exporter
COPY query_api query_api
RUN python -m venv /opt/spanledger && /opt/spanledger/bin/pip install --no-cache-dir . && /opt/spanledger/bin/pip uninstall --yes pip

FROM python:3.13.9-slim-trixie
RUN useradd --system --uid 10001 --home-dir /var/lib/spanledger --create-home spanledger
COPY --from=build /opt/spanledger /opt/spanledger
ENV PATH=/opt/spanledger/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    SPANLEDGER_DATABASE_URL=sqlite:////var/lib/spanledger/spanledger.db
USER spanledger
WORKDIR /var/lib/spanledger
VOLUME /var/lib/spanledger
EXPOSE 8318
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8318/healthz', timeout=3)"]
ENTRYPOINT ["spanledger"]
# Refused without an API key, and the refusal says how to go on: a container is open to its whole network.
CMD ["serve", "--host", "0.0.0.0"]
