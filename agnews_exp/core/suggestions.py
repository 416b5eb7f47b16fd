"""Suggestions: the overrides that a mistyped key, or one from another library, probably meant.

A suggestion is a search over all keys and choices of the configuration, helped by a table of the names that people
bring from scikit-learn, Hugging Face, Lightning, Optuna and Weights & Biases. Below a threshold nothing is suggested: a
wrong guess costs more than none.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

THRESHOLD = 0.75
"""Least likeness (difflib's ratio, 0 to 1) of two names that are suggested for each other."""

_LONGEST = 200
"""Most characters of a name that is compared: difflib's time grows with the product of lengths."""

KEY_ALIASES: Mapping[str, str] = {
    alias: key
    for key, aliases in {
        "model.learning_rate": "lr learning_rate eta step_size",
        "trainer.max_epochs": "epoch epochs num_epochs n_epochs num_train_epochs max_epoch nb_epochs",
        "trainer.max_steps": "steps num_steps max_iterations num_training_steps",
        "trainer.batch_size": "bs batch batchsize train_batch_size per_device_train_batch_size",
        "trainer.evaluation_batch_size": "eval_batch_size per_device_eval_batch_size val_batch_size",
        "trainer.accumulate_grad_batches": "gradient_accumulation_steps grad_accum accumulate_steps",
        "trainer.gradient_clip_val": "max_grad_norm grad_clip clip_grad gradient_clip",
        "trainer.precision": "fp16 bf16 amp mixed_precision",
        "trainer.devices": "gpus gpu n_gpus num_gpus devices cuda",
        "trainer.accelerator": "device",
        "trainer.early_stopping_patience": "patience early_stopping early_stopping_rounds",
        "trainer.n_jobs": "threads n_threads num_threads cpus",
        "trainer.val_check_interval": "eval_steps evaluation_steps",
        "trainer.log_every_n_steps": "logging_steps",
        "model.max_length": "max_seq_length max_seq_len max_len seq_len max_tokens",
        "model.schedule": "scheduler lr_scheduler lr_scheduler_type",
        "model.warmup_ratio": "warmup warmup_steps warmup_proportion",
        "model.weight_decay": "wd decay",
        "model.pretrained": "model_name_or_path checkpoint pretrained_model model_id revision model_revision",
        "model.label_smoothing": "label_smoothing_factor smoothing",
        "seed": "random_state random_seed seed_everything manual_seed",
        "split_seed": "split_random_state",
        "data_fraction": "fraction frac subsample sample_fraction train_fraction train_size",
        "data.train_file": "train_file train_path train_csv data_path data_file dataset_path csv_path train_data",
        "data.test_file": "test_path test_csv test_data",
        "data.validation_file": "val_file val_path dev_file valid_file eval_file validation_path",
        "data.text_columns": "text_column text_col text_field text_columns columns input_column sentence_column",
        "data.label_column": "label label_col target target_column y_column class_column labels_column",
        "data.delimiter": "sep separator delim",
        "data.validation_size": "val_size validation_split val_split val_fraction",
        "data.test_size": "test_split test_fraction",
        "evaluation.folds": "cv n_splits n_folds num_folds kfold k_folds",
        "evaluation.primary": "metric scoring monitor objective metric_for_best_model",
        "hydra.sweeper.n_trials": "n_trials trials num_trials n_iter max_trials",
        "hydra.sweeper.direction": "direction",
        "hydra.launcher.n_jobs": "parallel workers max_workers",
        "hydra.launcher.timeout": "timeout time_limit",
        "tracking.experiment": "project experiment_name project_name wandb_project",
        "tracking.uri": "tracking_uri mlflow_uri mlflow_tracking_uri",
        "paths.output_dir": "output_dir out_dir save_dir log_dir default_root_dir",
        "name": "run_name exp_name job_name",
    }.items()
    for alias in aliases.split()
}
"""Names that other libraries give a key, in lower case, to the name here."""

CHOICE_ALIASES: Mapping[str, str] = {
    alias: choice
    for choice, aliases in {
        "model=multinomial_nb": "naive_bayes naivebayes nb mnb multinomialnb bayes",
        "model=linear_svc": "svm svc linear_svm linearsvc linearsvm support_vector_machine",
        "model=logreg": "logistic logistic_regression logisticregression lr_classifier maxent",
        "model=random_forest_100": "random_forest randomforest rf randomforestclassifier forest",
        "model=xgboost": "xgb xgbclassifier gbdt",
        "model=lightgbm": "lgbm lgb lgbmclassifier gradient_boosting gbm boosting",
        "model=sgd_hinge": "sgd sgdclassifier",
        "model=ridge": "ridge_classifier ridgeclassifier",
        "model=knn": "kneighbors nearest_neighbors k_nearest_neighbors kneighborsclassifier",
        "model=decision_tree": "tree decisiontreeclassifier",
        "model=ngram_linear": "fasttext fast_text",
        "model=dummy": "baseline majority dummyclassifier",
        "model=distilbert": "distil_bert distilbert_base_uncased distilbert_base transformer",
        "model=bert_base": "bert bert_base_uncased",
        "model=roberta_base": "roberta",
        "model=deberta_v3_base": "deberta deberta_v3",
        "model=electra_small": "electra",
        "model=text_cnn": "cnn textcnn kimcnn",
        "model=bilstm": "lstm rnn gru bi_lstm",
        "model=minilm": "sentence_transformer all_minilm_l6_v2 mini_lm",
        "model=setfit": "set_fit few_shot",
        "model=static_minilm": "model2vec potion static",
        "model=soft_voting": "voting votingclassifier ensemble",
        "model=stacking": "stackingclassifier stack",
        "features=word_tfidf": "tfidf tf_idf tfidfvectorizer word",
        "features=bow": "bag_of_words count countvectorizer counts",
        "features=char_tfidf": "char characters char_ngrams",
        "features=static_embeddings": "glove word2vec w2v fasttext_vectors",
        "features=minilm_embeddings": "sbert sentence_embeddings embeddings",
        "data=csv": "tsv json jsonl file files own custom",
        "evaluation=cv": "crossval cross_validation kfold",
        "hydra/sweeper=optuna": "optuna tpe bayes_search",
    }.items()
    for alias in aliases.split()
}
"""Names that other libraries give a choice, in lower case, to the choice here with its group."""


@dataclass(frozen=True)
class Known:
    """Keys and choices that a configuration may have."""

    keys: Sequence[str]  # leaf keys, such as ``trainer.batch_size``, those of the composed configuration first
    choices: Mapping[str, Sequence[str]]  # names of the choices by group
    # Group choices that must be typed too before a key is there, such as ``data=csv`` for ``data.train_file``; no entry
    # for a key that is there already.
    brings: Mapping[str, str]


def suggest(typed: str, value: str | None, known: Known) -> list[str]:
    """Return overrides to type instead of ``typed=value``, best first, at most three, or none."""
    word = _plain(typed)
    last = word.rpartition(".")[2]
    scored: dict[str, float] = {}

    def offer(override: str, score: float) -> None:
        scored[override] = max(score, scored.get(override, 0.0))

    shown = "<value>" if value is None else value
    for alias in (word, last):
        if key := KEY_ALIASES.get(alias):
            offer(_with(known.brings.get(key), f"{key}={shown}"), 1.01)
        if choice := CHOICE_ALIASES.get(alias):
            offer(choice, 0.97)
    for place, key in enumerate(known.keys):
        likeness = _likeness(last, _plain(key).rpartition(".")[2])
        if likeness >= THRESHOLD:
            # Of equally like ones that which is there comes before one that another choice brings.
            missing = 0.02 if key in known.brings else 0.0
            offer(_with(known.brings.get(key), f"{key}={shown}"), likeness - missing - place * 1e-6)
    for group, names in known.choices.items():
        if value in names and THRESHOLD <= (likeness := _likeness(word, group)) < 1:
            offer(f"{group}={value}", likeness)
        for name in names:
            if (likeness := _likeness(word, name)) >= THRESHOLD:
                offer(f"{group}={name}", likeness - 0.01)
    best = sorted(scored, key=lambda override: (-scored[override], override))
    return [override for override in best if scored[override] >= scored[best[0]] - 0.2][:3]


def suggest_choice(group: str, typed: str, names: Iterable[str]) -> str | None:
    """Return the choice of a group that a name probably meant, or None."""
    own = list(names)
    alias = CHOICE_ALIASES.get(_plain(typed), "")
    if alias.startswith(f"{group}=") and alias.partition("=")[2] in own:
        return alias.partition("=")[2]
    # A name that begins another one (`random_forest`, `sgd`) is nearer to it than spelling says.
    begun = [name for name in own if _plain(name).startswith(_plain(typed))] if len(typed) > 2 else []
    return begun[0] if len(begun) == 1 else nearest(typed, own)


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Return the known word most like ``word`` (whatever the case), or None when nothing is near."""
    best: tuple[float, str] | None = None
    for name in known:
        likeness = _likeness(_plain(word), _plain(name))
        if likeness >= THRESHOLD and (best is None or likeness > best[0]):
            best = (likeness, name)
    return None if best is None else best[1]


def _plain(name: str) -> str:
    return re.sub(r"[-/\s]+", "_", name.strip().lstrip("+~").lower()) if "." not in name else name.strip().lower()


def _likeness(one: str, other: str) -> float:
    """Return difflib's ratio, 0 to 1; names of one or two letters are alike where one letter was typed too much."""
    if one == other:
        return 1.0
    if max(len(one), len(other)) > _LONGEST:
        return 0.0
    if min(len(one), len(other)) < 3:
        return THRESHOLD if one[:-1] == other else 0.0
    return difflib.SequenceMatcher(None, one, other).ratio()


def _with(choice: str | None, override: str) -> str:
    return override if choice is None else f"{choice} {override}"
