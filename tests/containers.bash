# What the container tests share; sourced by images.sh and trixie.sh, which write TAP. Needs root, and nothing of a registry: the
# Debian images are made from Debian's packages.

scratch=$(mktemp -d)
checks=0 failed=0

check() { # NAME COMMAND...: one test; what it prints is shown when it fails
    local name=$1 status=0
    shift
    checks=$((checks + 1))
    # Into a file: what watches a container holds on to a pipe for as long as the container runs.
    "$@" >"$scratch/output" 2>&1 || status=$?
    if [ $status -eq 0 ]; then
        echo "ok $checks - $name"
    else
        echo "not ok $checks - $name"
        grep -v -e 'systemd connection' -e 'connect to syslog' "$scratch/output" | tail -n 40 | sed 's/^/#   /'
        failed=$((failed + 1))
    fi
    return 0
}

finish() {
    echo "1..$checks"
    [ $failed = 0 ]
    exit
}

skip_all() { # REASON
    echo "1..0 # SKIP $1"
    exit 0
}

last_words() {
    grep -v -e 'systemd connection' -e 'connect to syslog' "$scratch/words" | tail -n 1
}

# Containers need root, tools, Debian's packages and a kernel that lets them be: otherwise say why, and that is one test skipped.
# Sets `debian` to localhost/debian:RELEASE-slim, which is made once.
require_containers() { # RELEASE TOOL...
    local tool release=$1
    shift
    [ "$(id -u)" = 0 ] || skip_all 'containers are tested as root'
    for tool in podman buildah runc mmdebstrap "$@"; do
        command -v "$tool" >/dev/null || skip_all "$tool is not installed (tools/setup images)"
    done
    export BUILDAH_ISOLATION=chroot CONTAINERS_CONF=$scratch/containers.conf
    cat >"$CONTAINERS_CONF" <<'END'
[containers]
default_ulimits = ["nofile=20000:20000", "nproc=10000:10000"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
END
    unshare --mount --pid --net --fork true 2>"$scratch/words" || skip_all "no namespaces here: $(last_words)"
    debian=localhost/debian:$release-slim
    if ! podman image exists "$debian"; then
        mmdebstrap --quiet --variant=minbase "$release" "$scratch/debian.tar" >"$scratch/words" 2>&1 ||
            skip_all "Debian's packages cannot be had: $(last_words)"
        podman import --quiet "$scratch/debian.tar" "$debian" >"$scratch/words" 2>&1 ||
            skip_all "an image cannot be made: $(last_words)"
        rm -f "$scratch/debian.tar"
    fi
    podman run --rm "$debian" true >"$scratch/words" 2>&1 || skip_all "a container cannot run: $(last_words)"
}

# What git knows of the tree, into a folder of its own: whatever is done there is nobody's.
copy_tree() { # FOLDER
    mkdir "$1"
    git -c safe.directory="$PWD" ls-files -z --cached --others --exclude-standard |
        xargs -0 cp --parents --no-dereference --preserve=mode,timestamps -t "$1"
}
