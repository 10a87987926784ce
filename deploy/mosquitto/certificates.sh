#!/bin/sh
# Makes a certificate authority, and certificates for the broker and its clients, with openssl:
#   certificates.sh FOLDER ca
#   certificates.sh FOLDER server broker.plant.example 192.168.1.5    (every name and address that clients use)
#   certificates.sh FOLDER client station1                            (the name is the user of the ACL file)
# Writes FOLDER/ca.crt, FOLDER/NAME.crt and FOLDER/NAME.key; the broker's name is `server`. Nothing is overwritten.
# DAYS (825) says how long a certificate is good; the authority's is for ten years. Keep ca.key off the broker.
set -eu
umask 077

fail() {
    echo "certificates.sh: $1" >&2
    exit 2
}

[ $# -ge 2 ] || fail "expected FOLDER and ca, server NAME..., or client NAME"
folder=$1 what=$2
shift 2
mkdir -p "$folder"

new_key() {
    [ ! -e "$folder/$1.key" ] || fail "$folder/$1.key exists already; move it away if it is to be replaced"
    openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$folder/$1.key"
}

sign() { # FILE CN USAGE ALTERNATIVE-NAMES
    [ -e "$folder/ca.key" ] || fail "$folder/ca.key is missing; make it first: certificates.sh $folder ca"
    new_key "$1"
    extensions="basicConstraints=critical,CA:FALSE
keyUsage=critical,digitalSignature
extendedKeyUsage=$3
subjectAltName=$4"
    openssl req -new -key "$folder/$1.key" -subj "/CN=$2" -out "$folder/$1.csr"
    echo "$extensions" >"$folder/$1.ext"
    if ! openssl x509 -req -in "$folder/$1.csr" -CA "$folder/ca.crt" -CAkey "$folder/ca.key" -CAcreateserial \
        -days "${DAYS:-825}" -extfile "$folder/$1.ext" -out "$folder/$1.crt" 2>"$folder/$1.log"; then
        cat "$folder/$1.log" >&2
        rm -f "$folder/$1".*
        fail "$1.crt could not be signed (DAYS=${DAYS:-825})"
    fi
    rm "$folder/$1.csr" "$folder/$1.ext" "$folder/$1.log"
    chmod 644 "$folder/$1.crt"
}

alternatives() { # of the broker: addresses are told from names, for clients compare them differently
    list=
    for name in "$@"; do
        case $name in
        *:*) kind=IP ;;
        *[!0-9.]*) kind=DNS ;;
        *) kind=IP ;;
        esac
        list="$list${list:+,}$kind:$name"
    done
    echo "$list"
}

case $what in
ca)
    new_key ca
    openssl req -x509 -new -key "$folder/ca.key" -days 3650 -subj "/CN=Inspection broker CA" \
        -addext basicConstraints=critical,CA:TRUE,pathlen:0 -addext keyUsage=critical,keyCertSign,cRLSign \
        -out "$folder/ca.crt"
    chmod 644 "$folder/ca.crt"
    ;;
server)
    [ $# -ge 1 ] || fail "server needs the name or address by which clients call the broker"
    sign server "$1" serverAuth "$(alternatives "$@")"
    ;;
client)
    [ $# -eq 1 ] || fail "client needs one name"
    case $1 in
    "" | ca | server | *[!A-Za-z0-9_.-]*) fail "a client's name has letters, digits and _ . - and is not ca or server, but is '$1'" ;;
    esac
    sign "$1" "$1" clientAuth "DNS:$1"
    ;;
*) fail "expected ca, server or client, but got '$what'" ;;
esac
