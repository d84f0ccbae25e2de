# Speech -> features, quantizers, units.


rule describe_encoder:
    input:
        source_of_encoder,
    output:
        f"{ROOT}/encoders/{{encoder}}/config.json",
    log:
        f"{LOGS}/describe_encoder/{{encoder}}.log",
    benchmark:
        f"{BENCHMARKS}/describe_encoder/{{encoder}}.tsv"
    wildcard_constraints:
        encoder=any_of(DESCRIBED),
    conda:
        "../../envs/environment.yaml"
    resources:
        mem_mb=lambda wildcards: 8000 if encoder_of(wildcards).family == "custom" else 1000,  # that one is loaded
        runtime=10,
    params:
        # Only this is cause to run again (see device_of): another layer is not.
        decisive=lambda wildcards: settings_json(
            encoder_of(wildcards), exclude={"name", "group", "layers", "quantizers"}
        ),
        settings=lambda wildcards, output: settings_json(encoder_of(wildcards)),
        folder=lambda wildcards, output: Path(output[0]).parent,
    shell:
        "python -m units.encoders describe --settings {params.settings:q} --output {params.folder:q} > {log:q} 2>&1"


rule phone_inventory:
    input:
        TARGETS.inventoried(),
    output:
        f"{ROOT}/encoders/{{phones}}/config.json",
    log:
        f"{LOGS}/phone_inventory/{{phones}}.log",
    benchmark:
        f"{BENCHMARKS}/phone_inventory/{{phones}}.tsv"
    wildcard_constraints:
        phones=any_of(PHONES),
    conda:
        "../../envs/environment.yaml"
    resources:
        mem_mb=2000,
        runtime=10,
    shell:
        "python -m units.phones inventory --intervals {input:q} --output {output:q} > {log:q} 2>&1"


# Audio is read once for all that is wanted of an encoder: a pass, in a folder of its own under passes/
# (workflow/passes.py), out of which each feature set and each system's units are taken.
rule extract:
    input:
        encoder=encoder_files,
        manifest=f"{ROOT}/corpora/{{corpus}}/manifest.csv",
    output:
        f"{ROOT}/passes/{{encoder}}/features/{{corpus}}/{{layers}}/pass.json",
    log:
        f"{LOGS}/extract/{{encoder}}/{{corpus}}/{{layers}}.log",
    benchmark:
        f"{BENCHMARKS}/extract/{{encoder}}/{{corpus}}/{{layers}}.tsv"
    conda:
        "../../envs/environment.yaml"
    resources:
        mem_mb=by_attempt(8000),
        runtime=minutes(240),
        gpu=gpu_of_encoder,
    params:
        encoder=lambda wildcards, input: Path(input.encoder[0]).parent,
        layers=lambda wildcards: layers_of(wildcards.layers),
        kind="",
        folder=lambda wildcards, output: Path(output[0]).parent,
        device=device_of,
        precision=EXPERIMENT.precision,
    shell:
        "python -m units.extract --encoder {params.encoder:q} --layer {params.layers} {params.kind}"
        " --manifest {input.manifest:q} --device {params.device} --precision {params.precision}"
        " --output {params.folder:q} > {log:q} 2>&1"


use rule extract as predict with:
    output:
        f"{ROOT}/passes/{{encoder}}/predictions/{{corpus}}/{{layers}}/pass.json",
    log:
        f"{LOGS}/predict/{{encoder}}/{{corpus}}/{{layers}}.log",
    benchmark:
        f"{BENCHMARKS}/predict/{{encoder}}/{{corpus}}/{{layers}}.tsv"
    params:
        encoder=lambda wildcards, input: Path(input.encoder[0]).parent,
        layers=lambda wildcards: layers_of(wildcards.layers),
        kind="--predictions",
        folder=lambda wildcards, output: Path(output[0]).parent,
        device=device_of,
        precision=EXPERIMENT.precision,


# Frames for K-means to be fitted on.
use rule extract as sample with:
    output:
        f"{ROOT}/passes/{{encoder}}/sample{{frames}}/{{corpus}}/{{layers}}/pass.json",
    log:
        f"{LOGS}/sample/{{encoder}}/{{frames}}/{{corpus}}/{{layers}}.log",
    benchmark:
        f"{BENCHMARKS}/sample/{{encoder}}/{{frames}}/{{corpus}}/{{layers}}.tsv"
    wildcard_constraints:
        frames=r"\d+",
    params:
        encoder=lambda wildcards, input: Path(input.encoder[0]).parent,
        layers=lambda wildcards: layers_of(wildcards.layers),
        kind=lambda wildcards: f"--sample {wildcards.frames} --seed {EXPERIMENT.seed}",
        folder=lambda wildcards, output: Path(output[0]).parent,
        device=device_of,
        precision=EXPERIMENT.precision,


rule take_features:
    input:
        pass_of_frames,
    output:
        directory(f"{ROOT}/{{frames}}/{{encoder}}/L{{layer}}/{{corpus}}"),
    log:
        f"{LOGS}/take_features/{{frames}}/{{encoder}}/L{{layer}}/{{corpus}}.log",
    benchmark:
        f"{BENCHMARKS}/take_features/{{frames}}/{{encoder}}/L{{layer}}/{{corpus}}.tsv"
    wildcard_constraints:
        frames="features|predictions",
    conda:
        "../../envs/environment.yaml"
    resources:
        mem_mb=500,
        runtime=30,
    params:
        folder=lambda wildcards, input: Path(input[0]).parent / f"L{wildcards.layer}",
    shell:
        "python -m units.take --features {params.folder:q} --output {output:q} > {log:q} 2>&1"


rule kmeans:
    input:
        sampled_from,
    output:
        config=f"{ROOT}/quantizers/{{encoder}}/L{{layer}}/{{quantizer}}/config.json",
        weights=f"{ROOT}/quantizers/{{encoder}}/L{{layer}}/{{quantizer}}/quantizer.safetensors",
    log:
        f"{LOGS}/kmeans/{{encoder}}/L{{layer}}/{{quantizer}}.log",
    benchmark:
        f"{BENCHMARKS}/kmeans/{{encoder}}/L{{layer}}/{{quantizer}}.tsv"
    wildcard_constraints:
        quantizer=any_of(FITTED),
    conda:
        "../../envs/environment.yaml"
    resources:
        mem_mb=by_attempt(16000),
        runtime=minutes(240),
    params:
        settings=lambda wildcards: settings_json(EXPERIMENT.quantizers[wildcards.quantizer]),
        seed=EXPERIMENT.seed,
        features=lambda wildcards, input: Path(input[0]).parent / f"L{wildcards.layer}",
        folder=lambda wildcards, output: Path(output.config).parent,
    shell:
        "python -m units.kmeans fit --features {params.features:q} --settings {params.settings:q} --seed {params.seed}"
        " --output {params.folder:q} > {log:q} 2>&1"


# K-means made elsewhere takes its place.
rule given_kmeans:
    input:
        config=lambda wildcards: f"{EXPERIMENT.quantizers[wildcards.quantizer].path}/config.json",
        weights=lambda wildcards: f"{EXPERIMENT.quantizers[wildcards.quantizer].path}/quantizer.safetensors",
    output:
        config=f"{ROOT}/quantizers/{{encoder}}/L{{layer}}/{{quantizer}}/config.json",
        weights=f"{ROOT}/quantizers/{{encoder}}/L{{layer}}/{{quantizer}}/quantizer.safetensors",
    log:
        f"{LOGS}/given_kmeans/{{encoder}}/L{{layer}}/{{quantizer}}.log",
    benchmark:
        f"{BENCHMARKS}/given_kmeans/{{encoder}}/L{{layer}}/{{quantizer}}.tsv"
    wildcard_constraints:
        quantizer=any_of(GIVEN),
    conda:
        "../../envs/environment.yaml"
    resources:
        mem_mb=500,
        runtime=10,
    params:
        settings=lambda wildcards: settings_json(EXPERIMENT.quantizers[wildcards.quantizer]),
        folder=lambda wildcards, output: Path(output.config).parent,
    shell:
        "python -m units.kmeans take --settings {params.settings:q} --encoder {wildcards.encoder}"
        " --layer {wildcards.layer} --output {params.folder:q} > {log:q} 2>&1"


rule codebook:
    input:
        encoder=encoder_files,
    output:
        config=f"{ROOT}/quantizers/{{encoder}}/L{{layer}}/{{quantizer}}/config.json",
        weights=f"{ROOT}/quantizers/{{encoder}}/L{{layer}}/{{quantizer}}/quantizer.safetensors",
    log:
        f"{LOGS}/codebook/{{encoder}}/L{{layer}}/{{quantizer}}.log",
    benchmark:
        f"{BENCHMARKS}/codebook/{{encoder}}/L{{layer}}/{{quantizer}}.tsv"
    wildcard_constraints:
        quantizer=any_of(CODEBOOKS),
    conda:
        "../../envs/environment.yaml"
    resources:
        mem_mb=4000,
        runtime=10,
    params:
        encoder=lambda wildcards, input: Path(input.encoder[0]).parent,
        folder=lambda wildcards, output: Path(output.config).parent,
    shell:
        "python -m units.codebook --encoder {params.encoder:q} --layer {wildcards.layer} --output {params.folder:q}"
        " > {log:q} 2>&1"


rule tokenize:
    input:
        encoder=encoder_files,
        quantizers=lambda wildcards: [
            f"{ROOT}/quantizers/{folder}/{file}"
            for folder in unit_pass(wildcards).quantizers(wildcards.encoder)
            for file in ("config.json", "quantizer.safetensors")
        ],
        manifests=lambda wildcards: [manifest(corpus) for corpus in unit_pass(wildcards).corpora],
    output:
        f"{ROOT}/passes/{{encoder}}/units/{{name}}/{{shard}}-of-{{shards}}/pass.json",
    log:
        f"{LOGS}/tokenize/{{encoder}}/{{name}}/{{shard}}-of-{{shards}}.log",
    benchmark:
        f"{BENCHMARKS}/tokenize/{{encoder}}/{{name}}/{{shard}}-of-{{shards}}.tsv"
    wildcard_constraints:
        name=r"\w+",
        shard=r"\d+",
        shards=r"\d+",
    priority: 5  # language models wait for it, and they take longer than all the metrics
    conda:
        "../../envs/environment.yaml"
    resources:
        mem_mb=by_attempt(8000),
        runtime=minutes(1440),
        gpu=gpu_of_encoder,
    params:
        encoder=lambda wildcards, input: Path(input.encoder[0]).parent,
        quantizers=lambda wildcards, input: [Path(config).parent for config in input.quantizers[::2]],
        folder=lambda wildcards, output: Path(output[0]).parent,
        device=device_of,
        precision=EXPERIMENT.precision,
    shell:
        "python -m units.tokenize --encoder {params.encoder:q} --quantizer {params.quantizers:q}"
        " --manifest {input.manifests:q} --shard {wildcards.shard}/{wildcards.shards} --device {params.device}"
        " --precision {params.precision} --output {params.folder:q} > {log:q} 2>&1"


rule take_units:
    input:
        made=passes_of_units,
        manifest=f"{ROOT}/corpora/{{corpus}}/manifest.csv",
    output:
        f"{ROOT}/units/{{system}}/{{corpus}}.jsonl",
    log:
        f"{LOGS}/take_units/{{system}}/{{corpus}}.log",
    benchmark:
        f"{BENCHMARKS}/take_units/{{system}}/{{corpus}}.tsv"
    wildcard_constraints:
        system=any_of(QUANTIZED),
    priority: 5
    group:
        "tokens_{system}"
    conda:
        "../../envs/environment.yaml"
    resources:
        mem_mb=by_attempt(1000),
        runtime=minutes(240),
    params:
        pieces=lambda wildcards, input: [
            Path(made).parent / wildcards.system / f"{wildcards.corpus}.jsonl" for made in input.made
        ],
    shell:
        "python -m units.take --units {params.pieces:q} --manifest {input.manifest:q} --output {output:q}"
        " > {log:q} 2>&1"


rule tokenize_phones:
    input:
        encoder=encoder_files,
        manifest=f"{ROOT}/corpora/{{corpus}}/manifest.csv",
        intervals=f"{ROOT}/corpora/{{corpus}}/intervals.csv",
    output:
        f"{ROOT}/units/{{system}}/{{corpus}}.jsonl",
    log:
        f"{LOGS}/tokenize_phones/{{system}}/{{corpus}}.log",
    benchmark:
        f"{BENCHMARKS}/tokenize_phones/{{system}}/{{corpus}}.tsv"
    wildcard_constraints:
        system=any_of(PHONES),
    group:
        "tokens_{system}"
    conda:
        "../../envs/environment.yaml"
    resources:
        mem_mb=by_attempt(2000),
        runtime=minutes(60),
    params:
        encoder=lambda wildcards, input: Path(input.encoder[0]).parent,
    shell:
        "python -m units.phones tokenize --encoder {params.encoder:q} --intervals {input.intervals:q}"
        " --manifest {input.manifest:q} --output {output:q} > {log:q} 2>&1"


rule health:
    input:
        units=lambda wildcards: [
            f"{ROOT}/units/{wildcards.system}/{corpus}.jsonl"
            for corpus in TARGETS.unit_corpora(EXPERIMENT.all_systems[wildcards.system])
        ],
        vocabulary=vocabulary,
    output:
        f"{ROOT}/units/{{system}}/health.json",
    log:
        f"{LOGS}/health/{{system}}.log",
    benchmark:
        f"{BENCHMARKS}/health/{{system}}.tsv"
    group:
        "tokens_{system}"
    conda:
        "../../envs/environment.yaml"
    resources:
        mem_mb=by_attempt(2000),
        runtime=minutes(240),
    shell:
        "python -m units.health --units {input.units:q} --vocabulary {input.vocabulary:q} --output {output:q}"
        " > {log:q} 2>&1"
