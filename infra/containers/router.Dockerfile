# The router: champion, canary and shadow traffic. It needs five packages and no model.
# Not run: no container engine was at hand where this was written. tests/infra checks what a parser can see.
#
#   docker build -f infra/containers/router.Dockerfile -t its-camera-router .
FROM python:3.11-slim-bookworm

COPY constraints.txt /srv/
RUN pip install --no-cache-dir --constraint /srv/constraints.txt httptools orjson prometheus-client pydantic uvloop \
 && useradd --uid 10001 --no-create-home router \
 && install -d -o router /var/lib/router
COPY bentos/__init__.py /srv/bentos/__init__.py
COPY bentos/router /srv/bentos/router

USER 10001
WORKDIR /srv
ENV PYTHONUNBUFFERED=1
VOLUME /var/lib/router
EXPOSE 3000
HEALTHCHECK --interval=10s --timeout=3s \
  CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:3000/livez', timeout=2)"]
ENTRYPOINT ["python", "-m", "bentos.router", "--host", "0.0.0.0", "--state-dir", "/var/lib/router"]
