#!/bin/sh
# Fetches psql and libpq 18 with libpq-oauth for the tests of OAUTHBEARER, from Debian's next
# release, into build-clients/: nothing of the system is changed. It needs Debian's apt. Tests that
# need these clients are skipped where they are missing.
set -eu
cd "$(dirname "$0")/.."
folder="$PWD/build-clients"
work="$folder/apt"

# The mirror that this system has its own release from.
mirror=$(apt-get indextargets --format '$(ORIGIN)|$(REPO_URI)' 'Created-By: Packages' |
  sed -n 's/^Debian|//p' | head -n 1)
[ -n "$mirror" ] || { echo 'clients: there is no index of Debian: apt-get update' >&2; exit 1; }

rm -rf "$folder"
mkdir -p "$work/lists/partial" "$work/cache/archives/partial"
touch "$work/status"
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
echo "deb [signed-by=$keyring] $mirror testing main" > "$work/sources.list"
cat > "$work/apt.conf" <<EOF
Dir::Etc::SourceList "$work/sources.list";
Dir::Etc::SourceParts "-";
Dir::State::Lists "$work/lists";
Dir::State::status "$work/status";
Dir::Cache "$work/cache";
APT::Sandbox::User "";
Acquire::Languages "none";
EOF
export APT_CONFIG="$work/apt.conf"
apt-get -qq update
apt-get -qq -y --no-install-recommends --download-only install postgresql-client-18 libpq-oauth
for package in "$work"/cache/archives/*.deb; do dpkg-deb -x "$package" "$folder/root"; done
rm -rf "$work"

# Programs of another release run with its own loader and libraries.
loader=$(echo "$folder"/root/usr/lib/*/ld-linux-*.so.*)
cat > "$folder/psql" <<EOF
#!/bin/sh
exec '$loader' --library-path '${loader%/*}' '$folder/root/usr/lib/postgresql/18/bin/psql' "\$@"
EOF
chmod +x "$folder/psql"
"$folder/psql" --version
