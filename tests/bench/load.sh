#!/bin/bash
# Load tests over HTTP; writes a Markdown table to standard output.
#   tests/bench/load.sh gateway    the gateway beside nginx's proxy_pass, one core each, before the same backend
#   tests/bench/load.sh service    guichet serve beside Flask, gunicorn and torchvision, same network, real JPEGs
# SECONDS_EACH (5) is the time of each measurement; 30 for figures to keep. PHOTO names the JPEG. Needs wrk; nginx for the
# first; python3-flask, gunicorn, python3-torchvision for the second. Linux, two processors or more.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
guichet=${GUICHET:-$here/../../build/guichet}
seconds=${SECONDS_EACH:-5}
folder=$(mktemp -d)
children=()
finish() {
  for child in "${children[@]}"; do kill "$child" 2>/dev/null || true; done
  wait
  rm -rf "$folder"
}
trap finish EXIT

start() { # start NAME COMMAND…: in the background, its output in a file
  local name=$1
  shift
  "$@" >"$folder/$name.log" 2>&1 &
  children+=($!)
}

await() { # await URL: until it answers
  for _ in $(seq 600); do
    curl -sf -o /dev/null "$1" && return 0
    sleep 0.1
  done
  echo "load.sh: $1 does not answer" >&2
  tail -n 5 "$folder"/*.log >&2
  exit 1
}

processor_ms() { # user and system time of a process and its children, in ms
  local sum=0 pid ticks
  for pid in "$1" $(pgrep -P "$1" || true); do
    ticks=$(awk '{print $14 + $15}' "/proc/$pid/stat")
    sum=$((sum + ticks * 10))
  done
  echo "$sum"
}

measure() { # measure CONNECTIONS URL: requests seconds errors p50 p99
  taskset -c 1 wrk -t1 -c"$1" -d"${seconds}s" --timeout 60s -s "$here/load.lua" "$2" | sed -n 's/^RESULT //p'
}

nginx_start() { # nginx_start NAME CPU LOCATION: one worker, nothing logged
  mkdir -p "$folder/$1"
  cat >"$folder/$1.conf" <<CONF
worker_processes 1; daemon off; pid $folder/$1.pid; error_log $folder/$1.err;
events { worker_connections 4096; }
http {
  access_log off; keepalive_requests 1000000000; default_type application/json;
  client_body_temp_path $folder/$1/b; proxy_temp_path $folder/$1/p; fastcgi_temp_path $folder/$1/f;
  uwsgi_temp_path $folder/$1/u; scgi_temp_path $folder/$1/s;
  upstream backend { server 127.0.0.1:18391; keepalive 128; keepalive_requests 1000000000; }
  server { listen 127.0.0.1:$4 backlog=1024; location / { $3 } }
}
CONF
  start "$1" taskset -c "$2" nginx -c "$folder/$1.conf"
}

compare_gateway() {
  nginx_start answer 1 "return 200 '{\"category\": \"tabby cat\"}';" 18391
  nginx_start proxy 0 'proxy_pass http://backend; proxy_http_version 1.1; proxy_set_header Connection "";
    proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; proxy_set_header X-Request-Id $request_id;' 18392
  local nginx=${children[-1]}
  start gateway taskset -c 0 "$guichet" gateway --backend cats=http://127.0.0.1:18391 --address 127.0.0.1 --port 18393 \
    --access-log off --threads 1
  local gateway=${children[-1]}
  await http://127.0.0.1:18392/hello
  await http://127.0.0.1:18393/hello
  echo "| 32 connections, as fast as they go | requests/s | p50 ms | p99 ms | processor time a request | errors |"
  echo "| --- | ---: | ---: | ---: | ---: | ---: |"
  local name port pid before result
  for _ in 1 2; do
    for name in nginx gateway; do
      [ $name = nginx ] && port=18392 pid=$nginx || port=18393 pid=$gateway
      before=$(processor_ms "$pid")
      result=$(measure 32 "http://127.0.0.1:$port/model/cats/predict")
      echo "$result $name $(($(processor_ms "$pid") - before))" |
        awk '{printf "| %s | %.0f | %.2f | %.2f | %.1f µs | %d |\n", $6, $1 / $2, $4, $5, $7 * 1000 / $1, $3}'
    done
  done
  echo
  echo "| 1,000 requests/s | p50 ms | p99 ms | errors |"
  echo "| --- | ---: | ---: | ---: |"
  for _ in 1 2; do
    for name in direct nginx gateway; do
      case $name in direct) port=18391 ;; nginx) port=18392 ;; gateway) port=18393 ;; esac
      DELAY_MS=20 measure 20 "http://127.0.0.1:$port/model/cats/predict" |
        awk -v name=$name '{printf "| %s (%.0f/s) | %.3f | %.3f | %d |\n", name, $1 / $2, $4, $5, $3}'
    done
  done
}

compare_service() {
  local network=${NETWORK:-resnet152} models=$folder/models photo=${PHOTO:-}
  if [ -z "$photo" ]; then
    photo=$folder/photo.jpg
    /usr/bin/python3 -c 'import random, sys; from PIL import Image, ImageFilter; random.seed(1)
image = Image.frombytes("RGB", (80, 60), bytes(random.randrange(256) for _ in range(80 * 60 * 3)))
image.resize((500, 375), Image.BICUBIC).filter(ImageFilter.GaussianBlur(1)).save(sys.argv[1], quality=90)' "$photo"
  fi
  export PHOTO=$photo
  mkdir -p "$models/$network"
  /usr/bin/python3 "$here/export.py" "$folder" "$network" >"$folder/export.log" 2>&1
  mv "$folder/$network.onnx" "$models/$network/model.onnx"
  echo '{"size": {"shortest_edge": 256}, "crop_size": {"height": 224, "width": 224}, "do_center_crop": true, "resample": 2,
    "rescale_factor": 0.00392156862745098, "image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}' \
    >"$models/$network/preprocessor_config.json"
  echo "| $network, $(stat -c %s "$photo") byte JPEG | connections | requests/s | p50 ms | p99 ms | errors |"
  echo "| --- | ---: | ---: | ---: | ---: | ---: |"
  MODEL_NAME=$network start original gunicorn --chdir "$here/original" --workers 2 --timeout 120 \
    --bind 127.0.0.1:18394 app:app
  local original=${children[-1]}
  await http://127.0.0.1:18394/hello
  service_rows "original (Flask, gunicorn, torchvision)" http://127.0.0.1:18394/predict
  kill "$original"
  start serve "$guichet" serve --models "$models" --port 18395 --preload
  await "http://127.0.0.1:18395/v2/models/$network/ready"
  service_rows guichet "http://127.0.0.1:18395/predict"
}

service_rows() { # service_rows NAME URL
  local connections
  curl -sf -o /dev/null -H 'Content-Type: image/jpeg' --data-binary "@$PHOTO" "$2" # warm
  for connections in 1 8 32; do
    measure $connections "$2" | awk -v name="$1" -v connections=$connections \
      '{printf "| %s | %d | %.1f | %.1f | %.1f | %d |\n", name, connections, $1 / $2, $4, $5, $3}'
  done
}

case ${1:-} in
gateway) compare_gateway ;;
service) compare_service ;;
*)
  sed -n '2,7s/^# \{0,1\}//p' "$0"
  exit 2
  ;;
esac
