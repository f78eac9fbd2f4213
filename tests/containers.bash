# What the container tests share; sourced by images.sh and trixie.sh. Needs root, and nothing of a registry: the Debian images are made
# from Debian's packages.

passed=0 failed=0 skipped=0

check() { # NAME COMMAND...: one test; what it prints is shown when it fails
    local name=$1 status=0
    shift
    # Into a file: what watches a container holds on to a pipe for as long as the container runs.
    "$@" >"$scratch/output" 2>&1 || status=$?
    if [ $status -eq 0 ]; then
        echo "ok - $name"
        passed=$((passed + 1))
    else
        echo "not ok - $name"
        grep -v -e 'systemd connection' -e 'connect to syslog' "$scratch/output" | tail -n 40 | sed 's/^/#   /'
        failed=$((failed + 1))
    fi
    return 0
}

skip() { # NAME REASON
    echo "ok - $1 # SKIP $2"
    skipped=$((skipped + 1))
}

finish() {
    echo "$passed passed, $failed failed$([ $skipped = 0 ] || echo ", $skipped skipped")"
    [ $failed = 0 ]
    exit
}

# Containers need root, tools and a kernel that lets them be: otherwise say why, and count one test as skipped.
require_containers() { # TOOL...
    local tool reason=''
    [ "$(id -u)" = 0 ] || reason='containers are tested as root'
    for tool in "$@"; do
        command -v "$tool" >/dev/null || reason="$tool is not installed (tools/setup images)"
    done
    if [ -z "$reason" ] && ! unshare --mount --pid --net --fork true 2>/dev/null; then
        reason='this system does not let containers be made'
    fi
    if [ -n "$reason" ]; then
        skip 'containers' "$reason"
        finish
    fi
    export BUILDAH_ISOLATION=chroot CONTAINERS_CONF=$scratch/containers.conf
    cat >"$CONTAINERS_CONF" <<'END'
[containers]
default_ulimits = ["nofile=20000:20000", "nproc=10000:10000"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
END
}

# localhost/debian:RELEASE-slim, made once.
debian_image() { # RELEASE
    local name=localhost/debian:$1-slim
    if ! podman image exists "$name"; then
        mmdebstrap --quiet --variant=minbase "$1" "$scratch/$1.tar" >&2
        podman import --quiet "$scratch/$1.tar" "$name" >&2
        rm -f "$scratch/$1.tar"
    fi
    echo "$name"
}
