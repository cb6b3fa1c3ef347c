# The server without CUDA: docker build --build-arg TORCH_INDEX=<the index of PyTorch's CPU wheels> -t assay .
# Run it in a checkout with models: docker run -p 8080:8080 -e ASSAY_API_KEYS -v "$PWD:/repo:ro" assay --model models/sentiment
FROM python:3.11-slim-bookworm AS build
ARG TORCH_INDEX
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE ./
RUN test -n "$TORCH_INDEX" || { echo "say --build-arg TORCH_INDEX=<the index of PyTorch's CPU wheels>"; exit 1; } \
 && python -m venv /opt/assay \
 && /opt/assay/bin/pip install --index-url "$TORCH_INDEX" --constraint constraints.txt torch torchvision
COPY src src
RUN /opt/assay/bin/pip install --constraint constraints.txt ".[serve,page,explain]" \
 && if /opt/assay/bin/pip list --format=freeze | grep -E '^(nvidia|cuda|triton)'; then echo "CUDA packages came in"; exit 1; fi

FROM python:3.11-slim-bookworm
RUN useradd --uid 10001 --create-home assay && install --directory --owner=assay /data /repo
COPY --from=build /opt/assay /opt/assay
ENV PATH=/opt/assay/bin:$PATH ASSAY_HOME=/data PYTHONUNBUFFERED=1
USER 10001
WORKDIR /repo
EXPOSE 8080
HEALTHCHECK --interval=15s --timeout=4s --start-period=90s --retries=3 \
  CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8080/readyz', timeout=3)"]
ENTRYPOINT ["assay", "serve", "--host", "0.0.0.0", "--port", "8080"]
CMD ["--model", "models/sentiment"]
