#!/bin/sh
# Put guichet on Cloud Run: a service for each model, then the gateway, then the frontend.
#   deploy/cloudrun/deploy.sh [--dry-run DIR] [--tag TAG] PROJECT REGION [MODEL...]
# MODEL: lines of models.tsv; animals by default. --dry-run writes the services into DIR and calls nobody.
# The images are those of deploy/cloudbuild.yaml. Run it again to change anything: it only ever applies.
set -eu
here=$(dirname "$0")
dry='' tag=latest
while [ $# -gt 0 ]; do
    case $1 in
    --dry-run) dry=${2:?--dry-run needs a folder}; shift 2 ;;
    --tag) tag=${2:?--tag needs a value}; shift 2 ;;
    --help | -h) sed -n 's/^# \{0,1\}//p' "$0" | sed 1d; exit 0 ;;
    --*) echo "deploy.sh: what is $1?" >&2; exit 2 ;;
    *) break ;;
    esac
done
[ $# -ge 2 ] || { echo "deploy.sh: PROJECT and REGION are needed (--help)" >&2; exit 2; }
project=$1 region=$2
shift 2
[ $# -gt 0 ] || set -- animals
prefix=$region-docker.pkg.dev/$project/guichet/
if [ -n "$dry" ]; then mkdir -p "$dry"; fi

cloud() {
    if [ -n "$dry" ]; then echo "gcloud $*"; else gcloud --project "$project" --quiet "$@"; fi
}

account() { # NAME: have a service account of its own for each tier
    if [ -n "$dry" ] || ! gcloud --project "$project" iam service-accounts describe \
        "$1@$project.iam.gserviceaccount.com" >/dev/null 2>&1; then
        cloud iam service-accounts create "$1"
    fi
}

apply() { # SERVICE TEMPLATE SED-EXPRESSION...
    file=${dry:-${TMPDIR:-/tmp}}/$1.yaml template=$2
    shift 2
    set -- "$@" -e "s|\${PROJECT}|$project|g" -e "s|\${PREFIX}|$prefix|g" -e "s|\${TAG}|$tag|g"
    sed "$@" "$here/$template" >"$file"
    if grep -n '\${[A-Z]' "$file"; then
        echo "deploy.sh: $template: nothing to put there" >&2
        exit 1
    fi
    cloud run services replace "$file" --region "$region"
}

address() { # SERVICE
    if [ -n "$dry" ]; then
        echo "https://$1.invalid"
    else
        gcloud --project "$project" run services describe "$1" --region "$region" --format 'value(status.url)'
    fi
}

invoker() { # SERVICE MEMBER: who may call it
    cloud run services add-iam-policy-binding "$1" --region "$region" --member "$2" --role roles/run.invoker
}

for tier in backend gateway frontend; do account "guichet-$tier"; done
if [ -n "$dry" ] || ! gcloud --project "$project" secrets describe guichet-session-key >/dev/null 2>&1; then
    cloud secrets create guichet-session-key --replication-policy automatic
    head -c 32 /dev/urandom | base64 | cloud secrets versions add guichet-session-key --data-file -
fi
cloud secrets add-iam-policy-binding guichet-session-key \
    --member "serviceAccount:guichet-frontend@$project.iam.gserviceaccount.com" --role roles/secretmanager.secretAccessor

backends=''
for model in "$@"; do
    line=$(grep -P "^\Q$model\E\t" "$here/models.tsv") || {
        echo "deploy.sh: $model: no line in models.tsv" >&2
        exit 2
    }
    service=$(echo "$model" | tr 'A-Z_' 'a-z-')
    set_line() { cpu=$2 memory=$3 concurrency=$4 startup=$5 min=$6 max=$7; }
    # shellcheck disable=SC2086
    set_line $line
    apply "guichet-$service" backend.yaml -e "s|\${SERVICE}|$service|g" -e "s|\${MODEL}|$model|g" \
        -e "s|\${CPU}|$cpu|g" -e "s|\${MEMORY}|$memory|g" -e "s|\${CONCURRENCY}|$concurrency|g" \
        -e "s|\${STARTUP}|$startup|g" -e "s|\${MIN}|$min|g" -e "s|\${MAX}|$max|g"
    invoker "guichet-$service" "serviceAccount:guichet-gateway@$project.iam.gserviceaccount.com"
    backends="$backends${backends:+ }$model=$(address "guichet-$service")"
done
apply guichet-gateway gateway.yaml -e "s|\${BACKENDS}|$backends|g"
invoker guichet-gateway "serviceAccount:guichet-frontend@$project.iam.gserviceaccount.com"
apply guichet-frontend frontend.yaml -e "s|\${GATEWAY_URL}|$(address guichet-gateway)|g"
invoker guichet-frontend allUsers
echo "guichet is at $(address guichet-frontend)"
