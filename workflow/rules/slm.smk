# Units, or texts -> language models -> log-likelihoods.


rule store_tokens:
    input:
        units=f"{ROOT}/units/{{system}}/{{corpus}}.jsonl",
        vocabulary=vocabulary,
    output:
        directory(f"{ROOT}/tokens/{{system}}/{{corpus}}"),
    log:
        f"{LOGS}/store_tokens/{{system}}/{{corpus}}.log",
    benchmark:
        f"{BENCHMARKS}/store_tokens/{{system}}/{{corpus}}.tsv"
    wildcard_constraints:
        system=any_of(SPOKEN),
    group:
        "tokens_{system}"
    conda:
        "../../envs/environment.yaml"
    resources:
        mem_mb=by_attempt(4000),
        runtime=minutes(120),
    shell:
        "python -m slm.store --units {input.units:q} --vocabulary {input.vocabulary:q} --corpus {wildcards.corpus}"
        " --output {output:q} > {log:q} 2>&1"


rule describe_tokenizer:
    output:
        config=f"{ROOT}/encoders/{{text}}/config.json",
        tokenizer=directory(f"{ROOT}/encoders/{{text}}/tokenizer"),
    log:
        f"{LOGS}/describe_tokenizer/{{text}}.log",
    benchmark:
        f"{BENCHMARKS}/describe_tokenizer/{{text}}.tsv"
    wildcard_constraints:
        text=any_of(TEXT),
    conda:
        "../../envs/environment.yaml"
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        tokenizer=lambda wildcards: EXPERIMENT.encoders[wildcards.text].tokenizer,
        folder=lambda wildcards, output: Path(output.config).parent,
    shell:
        "python -m slm.text describe --tokenizer {params.tokenizer:q} --output {params.folder:q} > {log:q} 2>&1"


rule store_texts:
    input:
        texts=f"{ROOT}/corpora/{{corpus}}/texts.csv",
        tokenizer=f"{ROOT}/encoders/{{system}}/tokenizer",
    output:
        directory(f"{ROOT}/tokens/{{system}}/{{corpus}}"),
    log:
        f"{LOGS}/store_texts/{{system}}/{{corpus}}.log",
    benchmark:
        f"{BENCHMARKS}/store_texts/{{system}}/{{corpus}}.tsv"
    wildcard_constraints:
        system=any_of(TEXT),
    group:
        "tokens_{system}"
    conda:
        "../../envs/environment.yaml"
    resources:
        mem_mb=by_attempt(4000),
        runtime=minutes(240),
    shell:
        "python -m slm.text store --texts {input.texts:q} --tokenizer {input.tokenizer:q} --corpus {wildcards.corpus}"
        " --output {output:q} > {log:q} 2>&1"


rule tokenize_texts:
    input:
        texts=f"{ROOT}/corpora/{{corpus}}/texts.csv",
        tokenizer=f"{ROOT}/encoders/{{system}}/tokenizer",
    output:
        f"{ROOT}/units/{{system}}/{{corpus}}.jsonl",
    log:
        f"{LOGS}/tokenize_texts/{{system}}/{{corpus}}.log",
    benchmark:
        f"{BENCHMARKS}/tokenize_texts/{{system}}/{{corpus}}.tsv"
    wildcard_constraints:
        system=any_of(TEXT),
    group:
        "tokens_{system}"
    conda:
        "../../envs/environment.yaml"
    resources:
        mem_mb=by_attempt(2000),
        runtime=minutes(60),
    shell:
        "python -m slm.text units --texts {input.texts:q} --tokenizer {input.tokenizer:q} --output {output:q}"
        " > {log:q} 2>&1"


rule train_slm:
    input:
        train=lambda wildcards: [f"{ROOT}/tokens/{wildcards.system}/{corpus}" for corpus in slm_of(wildcards).train],
        validation=lambda wildcards: f"{ROOT}/tokens/{wildcards.system}/{slm_of(wildcards).validation}",
        speakers=lambda wildcards: [f"{ROOT}/corpora/{corpus}/speakers.csv" for corpus in slm_of(wildcards).train],
        other_speakers=lambda wildcards: f"{ROOT}/corpora/{slm_of(wildcards).validation}/speakers.csv",
        followed=lambda wildcards: [path for paths in followed(wildcards).values() for path in paths],
    output:
        model=directory(f"{ROOT}/slm/{{system}}/{{slm}}/seed{{seed}}/model"),
        summary=f"{ROOT}/slm/{{system}}/{{slm}}/seed{{seed}}/summary.json",
    log:
        f"{LOGS}/train_slm/{{system}}/{{slm}}/seed{{seed}}.log",
    benchmark:
        f"{BENCHMARKS}/train_slm/{{system}}/{{slm}}/seed{{seed}}.tsv"
    priority: 5
    conda:
        "../../envs/environment.yaml"
    resources:
        mem_mb=by_attempt(16000),
        runtime=LAUNCH.minutes(1440),
        gpu=GPU,
    params:
        settings=lambda wildcards: settings_json(read_recipe(SlmRecipe, EXPERIMENT_FILE, slm_of(wildcards).recipe)),
        seed=lambda wildcards: EXPERIMENT.seed + int(wildcards.seed),
        data=data_of,
        follow=lambda wildcards: " ".join(f"--follow {name}={'='.join(of)}" for name, of in followed(wildcards).items()),
        device=device_of,
        folder=lambda wildcards, output: Path(output.summary).parent,
    shell:
        "python -m slm.train --settings {params.settings:q} --tokens {input.train:q}"
        " --validation-tokens {input.validation:q} --speakers {input.speakers:q}"
        " --validation-speakers {input.other_speakers:q} --slm {wildcards.slm} --seed {params.seed}"
        " {params.data} {params.follow} --device {params.device} --output {params.folder:q} > {log:q} 2>&1"


rule score_slm:
    input:
        model=f"{ROOT}/slm/{{system}}/{{slm}}/seed{{seed}}/model",
        units=[f"{ROOT}/units/{{system}}/{dataset}.jsonl" for dataset in TARGETS.evaluation_sets],
        vocabulary=vocabulary,
    output:
        [
            f"{ROOT}/likelihoods/{{system}}/{{slm}}/seed{{seed}}/{dataset}.{kind}"
            for dataset in TARGETS.evaluation_sets
            for kind in ("csv", "json")
        ],
    log:
        f"{LOGS}/score_slm/{{system}}/{{slm}}/seed{{seed}}.log",
    benchmark:
        f"{BENCHMARKS}/score_slm/{{system}}/{{slm}}/seed{{seed}}.tsv"
    wildcard_constraints:
        system=any_of(SPOKEN),
    conda:
        "../../envs/environment.yaml"
    resources:
        mem_mb=by_attempt(8000),
        runtime=minutes(240),
        gpu=GPU,
    params:
        device=device_of,
        folder=lambda wildcards, output: Path(output[0]).parent,
    shell:
        "python -m slm.score --model {input.model:q} --units {input.units:q} --vocabulary {input.vocabulary:q}"
        " --device {params.device} --output {params.folder:q} > {log:q} 2>&1"


# Text is scored on what is written alone.
use rule score_slm as score_text with:
    input:
        model=f"{ROOT}/slm/{{system}}/{{slm}}/seed{{seed}}/model",
        units=[f"{ROOT}/units/{{system}}/{dataset}.jsonl" for dataset in TEXT_SETS],
        vocabulary=vocabulary,
    output:
        [
            f"{ROOT}/likelihoods/{{system}}/{{slm}}/seed{{seed}}/{dataset}.{kind}"
            for dataset in TEXT_SETS
            for kind in ("csv", "json")
        ],
    log:
        f"{LOGS}/score_text/{{system}}/{{slm}}/seed{{seed}}.log",
    benchmark:
        f"{BENCHMARKS}/score_text/{{system}}/{{slm}}/seed{{seed}}.tsv"
    wildcard_constraints:
        system=any_of(TEXT),
