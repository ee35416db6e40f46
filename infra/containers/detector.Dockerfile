# The detector from a packaged bento: the image holds the very files that were evaluated, nothing is built anew.
# Not run: no container engine was at hand where this was written. tests/infra checks what a parser can see.
#
#   tca package
#   docker build -f infra/containers/detector.Dockerfile -t its-camera-detector:VERSION artifacts/package
FROM python:3.11-slim-bookworm

# ADD unpacks the archive; it holds src/ (code and model), env/ (pinned requirements) and bento.yaml.
ADD detector.bento /srv/bento/
RUN pip install --no-cache-dir --requirement /srv/bento/env/python/requirements.txt \
 && useradd --uid 10001 --no-create-home detector \
 && chown -R detector /srv/bento

USER 10001
# Everything that is written at run time goes below /tmp, so that the root file system may be read-only.
ENV BENTOML_HOME=/tmp/bentoml \
    BENTOML_DO_NOT_TRACK=True \
    PYTHONUNBUFFERED=1
EXPOSE 3000
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s \
  CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:3000/readyz', timeout=2)"]
# Not `bentoml serve`: inside a container that replaces no worker that died. This one gives up after some, with code 3.
WORKDIR /srv/bento/src
CMD ["python", "-m", "bentos.detector", "--bento", "/srv/bento", "--host", "0.0.0.0", "--port", "3000"]
