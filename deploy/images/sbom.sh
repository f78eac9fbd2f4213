#!/bin/sh
# The SPDX list of one component, on standard output: guichet itself before the runtime's packages.
#   sbom.sh NAME VERSION RUNTIME.spdx.json
set -eu
name=$1 version=$2

sed -e "s/\"name\": \"guichet-runtime\"/\"name\": \"$name\"/" -e "s#/guichet-runtime-#/$name-$version-#" \
    -e '/^ "packages": \[/a\
  {"SPDXID": "SPDXRef-Package-guichet", "name": "'"$name"'", "versionInfo": "'"$version"'", "filesAnalyzed": false,\
   "downloadLocation": "NOASSERTION", "licenseConcluded": "MIT", "licenseDeclared": "MIT",\
   "copyrightText": "NOASSERTION"},' \
    -e '/^ "relationships": \[/a\
  {"spdxElementId": "SPDXRef-DOCUMENT", "relationshipType": "DESCRIBES",\
   "relatedSpdxElement": "SPDXRef-Package-guichet"},' "$3"
