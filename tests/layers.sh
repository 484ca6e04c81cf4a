#!/bin/bash
# layers.sh - fails on an include that the picture of the layers does not have.
#
# Reads the include lines of the product (tests may include what they like),
# prints every bad edge with its place, and exits 1; else "layers: ok".
# To allow an edge is a decision about the design: change the picture first.
set -u
cd "$(dirname "$0")/.." || exit 2

# The layer a file belongs to.
layer_of() {
    case $1 in
    relay/main.*) echo main ;;
    relay/*/*) local folder=${1#relay/}; echo "${folder%%/*}" ;;
    relay/*) echo engine ;; # engine.c and what it is split into
    conf/* | queue/* | dkim/*) echo "${1%%/*}" ;;
    *) echo unknown ;;
    esac
}

# What each layer may include, besides itself. Ingress and egress are drivers
# that do not know each other; queue, dkim and net are rooms side by side.
pure="base mail smtp"
rooms="$pure dkim queue net"
declare -A may=(
    [base]=""
    [mail]="base"
    [smtp]="base mail"
    [conf]="base"
    [net]="$pure"
    [queue]="$pure"
    [dkim]="$pure"
    [intake]="$rooms"
    [ingress]="$rooms intake conf"
    [egress]="$rooms intake conf"
    [api]="$rooms intake conf ingress egress"
    [engine]="$rooms intake conf ingress egress api"
    [cli]="$rooms intake conf ingress egress api engine"
    [main]="$rooms intake conf ingress egress api engine cli"
)

# Where a header of another project may be included: layers, or path patterns.
homes_of() {
    case $1 in
    opendkim/* | dkim.h) echo "dkim" ;;
    lmdb.h) echo "queue" ;;
    uv.h | uv/* | ldns/* | curl/* | gsasl.h) echo "net" ;;
    idn2.h) echo "net relay/mail/addr*" ;;
    openssl/*) echo "net dkim relay/ingress/auth* cli" ;; # auth: keyed hashes; cli: key generation
    microhttpd.h) echo "api" ;;
    jansson.h) echo "api cli" ;;
    gmime/*) echo "api cli" ;;
    crypt.h) echo "ingress" ;;
    seccomp.h | linux/landlock.h) echo "engine main" ;;
    uthash.h | utlist.h) echo "any" ;; # header only, no types of its own
    sys/* | netinet/* | arpa/* | net/* | linux/*) echo "any" ;;
    assert.h | ctype.h | dirent.h | dlfcn.h | endian.h | errno.h | fcntl.h | fnmatch.h | getopt.h | glob.h | \
        grp.h | ifaddrs.h | inttypes.h | libgen.h | limits.h | link.h | locale.h | malloc.h | math.h | netdb.h | \
        poll.h | pthread.h | pwd.h | regex.h | sched.h | semaphore.h | signal.h | stdalign.h | \
        stdarg.h | stdatomic.h | stdbool.h | stddef.h | stdint.h | stdio.h | stdlib.h | \
        stdnoreturn.h | string.h | strings.h | syslog.h | sysexits.h | termios.h | time.h | \
        unistd.h | wchar.h | wctype.h) echo "any" ;;
    *) echo "" ;;
    esac
}

bad=0
complain() {
    echo "$1: $2"
    bad=1
}

is_home() { # file, its layer, homes
    local file=$1 layer=$2 home
    set -f # the patterns are for the path, not for the shell to expand
    for home in $3; do
        # shellcheck disable=SC2053
        if [[ $home == any || $home == "$layer" || $file == $home ]]; then
            set +f
            return 0
        fi
    done
    set +f
    return 1
}

check_own() { # place, file, its layer, header
    local target
    target=$(layer_of "$4")
    if [[ $3 == conf && $4 == relay/mail/policy.h ]]; then
        return # the vocabulary of TLS policies: values only, kept low so that options can name them
    elif [[ $target == unknown ]]; then
        complain "$1" "\"$4\" is not written from the root of the tree, or in no layer"
    elif [[ $target != "$3" && " ${may[$3]} " != *" $target "* ]]; then
        complain "$1" "$3 must not include $target (\"$4\")"
    elif [[ $target == conf && $2 =~ ^relay/egress/(dest|sched)[._] ]]; then
        complain "$1" "dest and sched get small parameter structs, never conf (\"$4\")"
    fi
}

check_foreign() { # place, file, its layer, header
    local homes
    homes=$(homes_of "$4")
    if [[ -z $homes ]]; then
        complain "$1" "<$4> has no home: say in tests/layers.sh which layer may include it"
    elif ! is_home "$2" "$3" "$homes"; then
        complain "$1" "<$4> belongs to $homes, not to $3"
    fi
}

count=0
while IFS=: read -r file line text; do
    layer=$(layer_of "$file")
    count=$((count + 1))
    if [[ $layer == unknown || -z ${may[$layer]+known} ]]; then
        complain "$file" "belongs to no layer"
    elif [[ $text =~ ^[[:space:]]*#[[:space:]]*include[[:space:]]*\"([^\"]+)\" ]]; then
        check_own "$file:$line" "$file" "$layer" "${BASH_REMATCH[1]}"
    elif [[ $text =~ ^[[:space:]]*#[[:space:]]*include[[:space:]]*\<([^\>]+)\> ]]; then
        check_foreign "$file:$line" "$file" "$layer" "${BASH_REMATCH[1]}"
    else
        complain "$file:$line" "an include that cannot be read: $text"
    fi
done < <(grep -rnE --include='*.[ch]' '^[[:space:]]*#[[:space:]]*include' relay conf queue dkim)

# The simulated network takes the place of what these two declare.
for header in relay/net/stream.h relay/net/dns.h; do
    if [[ ! -f $header ]]; then
        complain "$header" "is missing"
    fi
    while IFS=: read -r line text; do
        complain "$header:$line" "names a type of a library: $text"
    done < <(grep -nE '\b(uv_|SSL|ldns_)' "$header" 2>/dev/null)
done

if ((count == 0)); then
    complain "layers" "no include lines found: wrong folder?"
fi
((bad)) && exit 1
echo "layers: ok"
