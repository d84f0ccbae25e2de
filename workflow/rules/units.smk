# Speech -> features, quantizers, units.


rule describe_encoder:
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
        decisive=lambda wildcards: settings_json(encoder_of(wildcards), exclude={"name", "layers", "quantizers"}),
        settings=lambda wildcards, output: settings_json(encoder_of(wildcards)),
        folder=lambda wildcards, output: Path(output[0]).parent,
    shell:
        "python -m units.encoders describe --settings {params.settings:q} --output {params.folder} > {log} 2>&1"


rule phone_inventory:
    input:
        [f"{ROOT}/corpora/{corpus}/intervals.csv" for corpus in ANNOTATED],
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
        "python -m units.phones inventory --intervals {input} --output {output} > {log} 2>&1"


rule extract:
    input:
        encoder=encoder_files,
        manifest=f"{ROOT}/corpora/{{corpus}}/manifest.csv",
    output:
        directory(f"{ROOT}/features/{{encoder}}/L{{layer}}/{{corpus}}"),
    log:
        f"{LOGS}/extract/{{encoder}}/L{{layer}}/{{corpus}}.log",
    benchmark:
        f"{BENCHMARKS}/extract/{{encoder}}/L{{layer}}/{{corpus}}.tsv"
    conda:
        "../../envs/environment.yaml"
    resources:
        mem_mb=8000,
        runtime=240,
        gpu=1,
    params:
        encoder=lambda wildcards, input: Path(input.encoder[0]).parent,
        device=device_of,
    shell:
        "python -m units.extract --encoder {params.encoder} --layer {wildcards.layer} --manifest {input.manifest}"
        " --device {params.device} --output {output} > {log} 2>&1"


rule predict:
    input:
        encoder=encoder_files,
        manifest=f"{ROOT}/corpora/{{corpus}}/manifest.csv",
    output:
        directory(f"{ROOT}/predictions/{{encoder}}/L{{layer}}/{{corpus}}"),
    log:
        f"{LOGS}/predict/{{encoder}}/L{{layer}}/{{corpus}}.log",
    benchmark:
        f"{BENCHMARKS}/predict/{{encoder}}/L{{layer}}/{{corpus}}.tsv"
    conda:
        "../../envs/environment.yaml"
    resources:
        mem_mb=8000,
        runtime=240,
        gpu=1,
    params:
        encoder=lambda wildcards, input: Path(input.encoder[0]).parent,
        device=device_of,
    shell:
        "python -m units.extract --predictions --encoder {params.encoder} --layer {wildcards.layer}"
        " --manifest {input.manifest} --device {params.device} --output {output} > {log} 2>&1"


rule kmeans:
    input:
        fitted_on,
    output:
        config=f"{ROOT}/quantizers/{{encoder}}/L{{layer}}/{{quantizer}}/config.json",
        weights=f"{ROOT}/quantizers/{{encoder}}/L{{layer}}/{{quantizer}}/quantizer.safetensors",
    log:
        f"{LOGS}/kmeans/{{encoder}}/L{{layer}}/{{quantizer}}.log",
    benchmark:
        f"{BENCHMARKS}/kmeans/{{encoder}}/L{{layer}}/{{quantizer}}.tsv"
    wildcard_constraints:
        quantizer=any_of(KMEANS),
    conda:
        "../../envs/environment.yaml"
    resources:
        mem_mb=16000,
        runtime=240,
    params:
        settings=lambda wildcards: settings_json(EXPERIMENT.quantizers[wildcards.quantizer]),
        seed=EXPERIMENT.seed,
        folder=lambda wildcards, output: Path(output.config).parent,
    shell:
        "python -m units.kmeans --features {input} --settings {params.settings:q} --seed {params.seed}"
        " --output {params.folder} > {log} 2>&1"


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
        "python -m units.codebook --encoder {params.encoder} --layer {wildcards.layer} --output {params.folder}"
        " > {log} 2>&1"


rule tokenize_evaluation:
    input:
        encoder=encoder_files,
        quantizer=lambda wildcards: f"{quantizer_folder(wildcards)}/config.json",
        manifests=[manifest(corpus) for corpus in TARGETS.evaluated(language=True)],
    output:
        [f"{ROOT}/units/{{system}}/{corpus}.jsonl" for corpus in TARGETS.evaluated(language=True)],
    log:
        f"{LOGS}/tokenize_evaluation/{{system}}.log",
    benchmark:
        f"{BENCHMARKS}/tokenize_evaluation/{{system}}.tsv"
    wildcard_constraints:
        system=any_of(SPOKEN),
    conda:
        "../../envs/environment.yaml"
    resources:
        mem_mb=8000,
        runtime=1440,
        gpu=1,
    params:
        encoder=lambda wildcards, input: Path(input.encoder[0]).parent,
        quantizer=lambda wildcards, input: Path(input.quantizer).parent,
        layer=lambda wildcards: EXPERIMENT.all_systems[wildcards.system].layer,
        device=device_of,
    shell:
        "python -m units.tokenize --encoder {params.encoder} --layer {params.layer} --quantizer {params.quantizer}"
        " --manifest {input.manifests} --device {params.device} --output {output} > {log} 2>&1"


# Systems without a language model have units of fewer corpora.
use rule tokenize_evaluation as tokenize_measured with:
    input:
        encoder=encoder_files,
        quantizer=lambda wildcards: f"{quantizer_folder(wildcards)}/config.json",
        manifests=[manifest(corpus) for corpus in TARGETS.evaluated(language=False)],
    output:
        [f"{ROOT}/units/{{system}}/{corpus}.jsonl" for corpus in TARGETS.evaluated(language=False)],
    log:
        f"{LOGS}/tokenize_measured/{{system}}.log",
    benchmark:
        f"{BENCHMARKS}/tokenize_measured/{{system}}.tsv"
    wildcard_constraints:
        system=any_of(MUTE),


# Apart from the above: a new evaluation set must not retrain a language model.
use rule tokenize_evaluation as tokenize_training with:
    input:
        encoder=encoder_files,
        quantizer=lambda wildcards: f"{quantizer_folder(wildcards)}/config.json",
        manifests=[manifest(corpus) for corpus in TARGETS.trained_on],
    output:
        [f"{ROOT}/units/{{system}}/{corpus}.jsonl" for corpus in TARGETS.trained_on],
    log:
        f"{LOGS}/tokenize_training/{{system}}.log",
    benchmark:
        f"{BENCHMARKS}/tokenize_training/{{system}}.tsv"
    priority: 5  # a language model waits for it, and that takes longer than all the metrics


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
    conda:
        "../../envs/environment.yaml"
    resources:
        mem_mb=2000,
        runtime=60,
    params:
        encoder=lambda wildcards, input: Path(input.encoder[0]).parent,
    shell:
        "python -m units.phones tokenize --encoder {params.encoder} --intervals {input.intervals}"
        " --manifest {input.manifest} --output {output} > {log} 2>&1"


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
    conda:
        "../../envs/environment.yaml"
    resources:
        mem_mb=2000,
        runtime=30,
    shell:
        "python -m units.health --units {input.units} --vocabulary {input.vocabulary} --output {output} > {log} 2>&1"
