# Scores, logs, recipes, features and counts -> the paper's figures, each a target of its own.

from workflow.drawn import OF_EMBEDDINGS, OF_SCORES


# What `snakemake --report` says of the run as a whole; what it shows is marked where it is made.
report: "../report/workflow.rst"


rule draw_figure:
    input:
        scores=f"{ROOT}/scores.csv",
        others=TARGETS.others(),
    output:
        in_report("{number}"),
    log:
        f"{LOGS}/figures/{{number}}.log",
    benchmark:
        f"{BENCHMARKS}/figures/{{number}}.tsv"
    wildcard_constraints:
        number=any_of(f"{number:02d}" for number in OF_SCORES),
    conda:
        "../../envs/environment.yaml"
    resources:
        mem_mb=2000,
        runtime=10,
    params:
        select=lambda wildcards: json.dumps(
            {f"figure_{wildcards.number}": EXPERIMENT.select.get(f"figure_{wildcards.number}", {})}
        ),
        folder=lambda wildcards, output: Path(output[0]).parent,
    shell:
        "python -m eval.figures --figure {wildcards.number} --scores {input.scores:q} {input.others:q}"
        " --select {params.select:q} --output {params.folder:q} > {log:q} 2>&1"


rule draw_training_curves:
    input:
        [f"{TARGETS.encoder_folders()[encoder]}/config.json" for encoder in TARGETS.training_logs()],
    output:
        in_report("02"),
    log:
        f"{LOGS}/figures/02.log",
    benchmark:
        f"{BENCHMARKS}/figures/02.tsv"
    conda:
        "../../envs/environment.yaml"
    resources:
        mem_mb=2000,
        runtime=10,
    params:
        logs=[f"{display_name(encoder)}={log}" for encoder, log in TARGETS.training_logs().items()],
        stem=lambda wildcards, output: Path(output[0]).with_suffix(""),
    shell:
        "python -m eval.training_curves --log {params.logs:q} --output {params.stem:q} > {log:q} 2>&1"


rule draw_hardware:
    input:
        TARGETS.all_footprints(),
    output:
        in_report("04"),
    log:
        f"{LOGS}/figures/04.log",
    benchmark:
        f"{BENCHMARKS}/figures/04.tsv"
    conda:
        "../../envs/environment.yaml"
    resources:
        mem_mb=2000,
        runtime=10,
    params:
        stem=lambda wildcards, output: Path(output[0]).with_suffix(""),
    shell:
        "python -m eval.hardware --footprint {input:q} --output {params.stem:q} > {log:q} 2>&1"


rule schedules:
    output:
        f"{ROOT}/figures/schedules/{{encoder}}.csv",
    log:
        f"{LOGS}/schedules/{{encoder}}.log",
    benchmark:
        f"{BENCHMARKS}/schedules/{{encoder}}.tsv"
    wildcard_constraints:
        encoder=any_of(PRETRAINED),
    conda:
        "../../envs/environment.yaml"
    resources:
        mem_mb=500,
        runtime=10,
    params:
        settings=recipe_of,
    shell:
        "python -m spidr.schedules --settings {params.settings:q} --output {output:q} > {log:q} 2>&1"


rule draw_schedules:
    input:
        list(TARGETS.schedules().values()),
    output:
        in_report("05"),
    log:
        f"{LOGS}/figures/05.log",
    benchmark:
        f"{BENCHMARKS}/figures/05.tsv"
    conda:
        "../../envs/environment.yaml"
    resources:
        mem_mb=2000,
        runtime=10,
    params:
        schedules=[f"{display_name(encoder)}={table}" for encoder, table in TARGETS.schedules().items()],
        stem=lambda wildcards, output: Path(output[0]).with_suffix(""),
    shell:
        "python -m eval.schedules --schedules {params.schedules:q} --output {params.stem:q} > {log:q} 2>&1"


rule mask:
    output:
        f"{ROOT}/figures/masks/{{encoder}}.csv",
    log:
        f"{LOGS}/masks/{{encoder}}.log",
    benchmark:
        f"{BENCHMARKS}/masks/{{encoder}}.tsv"
    wildcard_constraints:
        encoder=any_of(PRETRAINED),
    conda:
        "../../envs/environment.yaml"
    resources:
        mem_mb=500,
        runtime=10,
    params:
        settings=recipe_of,
        seed=EXPERIMENT.seed,
    shell:
        "python -m spidr.masking --settings {params.settings:q} --seed {params.seed} --output {output:q} > {log:q} 2>&1"


rule draw_mask:
    input:
        lambda wildcards: TARGETS.mask(),
    output:
        in_report("06"),
    log:
        f"{LOGS}/figures/06.log",
    benchmark:
        f"{BENCHMARKS}/figures/06.tsv"
    conda:
        "../../envs/environment.yaml"
    resources:
        mem_mb=2000,
        runtime=10,
    params:
        stem=lambda wildcards, output: Path(output[0]).with_suffix(""),
    shell:
        "python -m eval.masking --mask {input:q} --output {params.stem:q} > {log:q} 2>&1"


# In no group: of the best layer it waits for ABX, a group's jobs, and for the selection, which is none.
rule embed_phones:
    input:
        features=lambda wildcards: TARGETS.embedded_features(wildcards.encoder, wildcards.choice, wildcards.corpus),
        selection=lambda wildcards: (TARGETS.selection(wildcards.encoder) if wildcards.choice == "best" else []),
        item=f"{ROOT}/corpora/{{corpus}}/phoneme.item",
        speakers=f"{ROOT}/corpora/{{corpus}}/speakers.csv",
    output:
        f"{ROOT}/figures/embeddings/{{encoder}}/{{choice}}/{{corpus}}.csv",
    log:
        f"{LOGS}/embed_phones/{{encoder}}/{{choice}}/{{corpus}}.log",
    benchmark:
        f"{BENCHMARKS}/embed_phones/{{encoder}}/{{choice}}/{{corpus}}.tsv"
    wildcard_constraints:
        corpus=any_of(ANNOTATED),
        choice=r"L\d\d|best",
    conda:
        "../../envs/environment.yaml"
    resources:
        mem_mb=by_attempt(4000),
        runtime=minutes(60),
    params:
        selection=lambda wildcards, input: (["--selection", input.selection] if input.selection else []),
        seed=EXPERIMENT.seed,
    shell:
        "python -m eval.embeddings --features {input.features:q} {params.selection:q} --item {input.item:q}"
        " --speakers {input.speakers:q} --dataset {wildcards.corpus} --seed {params.seed} --output {output:q}"
        " > {log:q} 2>&1"


rule draw_embeddings:
    input:
        lambda wildcards: TARGETS.embeddings(int(wildcards.number)),
    output:
        in_report("{number}"),
    log:
        f"{LOGS}/figures/{{number}}.log",
    benchmark:
        f"{BENCHMARKS}/figures/{{number}}.tsv"
    wildcard_constraints:
        number=any_of(f"{number:02d}" for number in OF_EMBEDDINGS),
    conda:
        "../../envs/environment.yaml"
    resources:
        mem_mb=2000,
        runtime=10,
    params:
        model=lambda wildcards: display_name(TARGETS.shown_encoder(int(wildcards.number))),
        stem=lambda wildcards, output: Path(output[0]).with_suffix(""),
    shell:
        "python -m eval.embedding_plots --figure {wildcards.number} --embeddings {input:q} --model {params.model:q}"
        " --output {params.stem:q} > {log:q} 2>&1"


rule draw_phone_given_unit:
    input:
        scores=lambda wildcards: TARGETS.counted(),
        selection=lambda wildcards: TARGETS.counted_selection(),
    output:
        in_report("10"),
    log:
        f"{LOGS}/figures/10.log",
    benchmark:
        f"{BENCHMARKS}/figures/10.tsv"
    conda:
        "../../envs/environment.yaml"
    resources:
        mem_mb=2000,
        runtime=10,
    params:
        selection=lambda wildcards, input: (["--selection", *input.selection] if input.selection else []),
        names=NAMES,
        stem=lambda wildcards, output: Path(output[0]).with_suffix(""),
    shell:
        "python -m eval.phone_given_unit --scores {input.scores:q} {params.selection:q} --names {params.names:q}"
        " --output {params.stem:q} > {log:q} 2>&1"
