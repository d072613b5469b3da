# Synapse's own image with our module in it. Built and run by docker-compose.yml; docs/admin.md has more.
#
# The version is the one that pyproject.toml pins and that the tests ran against.
ARG SYNAPSE=matrixdotorg/synapse:v1.163.2

FROM ${SYNAPSE} AS wheels
WORKDIR /source
COPY requirements/image.txt requirements/
# What the module needs beyond what Synapse brings, from hash-checked wheels, and what builds our own.
RUN pip wheel --no-cache-dir --no-deps --require-hashes --wheel-dir /wheels --requirement requirements/image.txt \
    && pip install --no-cache-dir --no-deps --no-index /wheels/*.whl
COPY pyproject.toml README.md LICENSE ./
COPY super_app super_app
COPY modules modules
RUN pip wheel --no-cache-dir --no-deps --no-build-isolation --wheel-dir /wheels .

FROM ${SYNAPSE}
RUN --mount=type=bind,from=wheels,source=/wheels,target=/wheels \
    pip install --no-cache-dir --no-deps --no-index --find-links /wheels babel barriers cbor2 charset-normalizer iso4217 precis-i18n pyjwt rbcl reportlab segno tzdata webauthn super-app-matrix \
    # The account that Synapse's image runs as by default.
    && install --directory --owner=991 --group=991 /homeserver
COPY docker/homeserver.yaml /etc/super-app/homeserver.yaml
USER 991:991
ENTRYPOINT ["super-app"]
CMD ["up", "--config", "/etc/super-app/homeserver.yaml", "--data", "/homeserver"]
