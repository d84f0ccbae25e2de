# Units -> language models -> log-likelihoods.


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
    conda:
        "../../envs/environment.yaml"
    resources:
        mem_mb=4000,
        runtime=120,
    shell:
        "python -m slm.store --units {input.units} --vocabulary {input.vocabulary} --corpus {wildcards.corpus}"
        " --output {output} > {log} 2>&1"


rule train_slm:
    input:
        train=lambda wildcards: [f"{ROOT}/tokens/{wildcards.system}/{corpus}" for corpus in slm_of(wildcards).train],
        validation=lambda wildcards: f"{ROOT}/tokens/{wildcards.system}/{slm_of(wildcards).validation}",
        speakers=lambda wildcards: [f"{ROOT}/corpora/{corpus}/speakers.csv" for corpus in slm_of(wildcards).train],
        other_speakers=lambda wildcards: f"{ROOT}/corpora/{slm_of(wildcards).validation}/speakers.csv",
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
        mem_mb=16000,
        runtime=1440,
        gpu=1,
    params:
        settings=lambda wildcards: settings_json(read_recipe(SlmRecipe, EXPERIMENT_FILE, slm_of(wildcards).recipe)),
        seed=lambda wildcards: EXPERIMENT.seed + int(wildcards.seed),
        device=device_of,
        folder=lambda wildcards, output: Path(output.summary).parent,
    shell:
        "python -m slm.train --settings {params.settings:q} --tokens {input.train} --validation-tokens {input.validation}"
        " --speakers {input.speakers} --validation-speakers {input.other_speakers}"
        " --slm {wildcards.slm} --seed {params.seed} --device {params.device} --output {params.folder} > {log} 2>&1"


rule score_slm:
    input:
        model=f"{ROOT}/slm/{{system}}/{{slm}}/seed{{seed}}/model",
        units=[f"{ROOT}/units/{{system}}/{dataset}.jsonl" for dataset in TARGETS.evaluation_sets],
    output:
        [f"{ROOT}/likelihoods/{{system}}/{{slm}}/seed{{seed}}/{dataset}.csv" for dataset in TARGETS.evaluation_sets],
    log:
        f"{LOGS}/score_slm/{{system}}/{{slm}}/seed{{seed}}.log",
    benchmark:
        f"{BENCHMARKS}/score_slm/{{system}}/{{slm}}/seed{{seed}}.tsv"
    conda:
        "../../envs/environment.yaml"
    resources:
        mem_mb=8000,
        runtime=240,
        gpu=1,
    params:
        device=device_of,
    shell:
        "python -m slm.score --model {input.model} --units {input.units} --device {params.device} --output {output}"
        " > {log} 2>&1"
