# A Prefect worker that runs every stage: the checkout with its environment, as `make install` makes it.
# Not run: no container engine was at hand where this was written. tests/infra checks what a parser can see.
#
#   docker build -f infra/containers/trainer.Dockerfile -t its-camera-trainer .
#
# For GPUs the node needs NVIDIA's driver and container toolkit; CUDA comes with PyTorch. train.compile needs g++.
# The data is not in the image: mount it at data/, or give DVC a remote and run `dvc pull` in the container.
FROM python:3.11-slim-bookworm

RUN apt-get update \
 && apt-get install --yes --no-install-recommends g++ git make \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --uid 10001 --create-home trainer \
 && install -d -o trainer /srv/its-camera-ai

USER 10001
WORKDIR /srv/its-camera-ai
COPY --chown=trainer Makefile constraints.txt pyproject.toml README.md LICENSE ./
COPY --chown=trainer flows flows
COPY --chown=trainer bentos bentos
RUN make install
# The rest after the environment, so that a change of code does not install it anew. .git makes results carry a commit.
COPY --chown=trainer . .

ENV PATH=/srv/its-camera-ai/.venv/bin:$PATH \
    TCA_PROJECT=/srv/its-camera-ai \
    PYTHONUNBUFFERED=1 \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
CMD ["prefect", "worker", "start", "--pool", "tca", "--type", "process"]
