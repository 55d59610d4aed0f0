# The app in a container.
#   with an NVIDIA GPU:  docker build -t qlora-demo .
#   for a CPU, smaller:  docker build -t qlora-demo --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cpu .
# Whoever reaches the port must log in, and runs lie in the volume:
#   docker run --rm -p 7860:7860 -v qlora-demo:/data -e QLORA_DEMO_AUTH=user:password qlora-demo          (with a GPU: --gpus all)
FROM python:3.12-slim

ARG TORCH_INDEX=""

# bitsandbytes computes with OpenMP on a CPU.
RUN apt-get update && apt-get install -y --no-install-recommends libgomp1 && rm -rf /var/lib/apt/lists/* \
 && useradd --create-home --uid 1000 user && install -d -o user -g user /data
USER user
WORKDIR /home/user/app
ENV PATH=/home/user/.local/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PIP_NO_CACHE_DIR=1 \
    GRADIO_SERVER_NAME=0.0.0.0 \
    GRADIO_SERVER_PORT=7860 \
    QLORA_DEMO_HOME=/data/runs \
    HF_HOME=/data/huggingface

COPY --chown=user requirements.txt constraints.txt ./
RUN if [ -n "$TORCH_INDEX" ]; then pip install --index-url "$TORCH_INDEX" "$(grep '^torch==' constraints.txt)"; fi \
 && pip install --requirement requirements.txt --constraint constraints.txt
COPY --chown=user . .

VOLUME /data
EXPOSE 7860
CMD ["python", "app.py"]
