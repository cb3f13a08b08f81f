"""The suite file of the demo, and how many examples its tasks have."""

from __future__ import annotations

SIZES = {
    "people": (1200, 150),
    "places": (900, 150),
    "orders": (900, 150),
    "fairs": (150, 100),
    "almanac": (400, 60),
    "letters": (400, 60),
    "guide": (80, 40),
    "mood": (1000, 150),
    "topics": (600, 150),
    "replies": (700, 150),
    "mail": (60, 100),
}
"""Training and validation examples of each task; for QA contexts, with three questions each
(`guide` four)."""

SUITE = """\
# A small invented world in eleven tasks. Its tokenizer and encoder lie in `model`.
name = "demo"
title = "An invented valley: its towns, people and companies"

[defaults]
model = "model"
learning_rate = 1.5e-3
max_epochs = 10
max_length = 128
precision = "fp32"    # too small to gain by half precision; the same figures on every machine

# A study of a few minutes: small parts of the tasks, few rates and seeds
[study]
rates = [3e-3, 1e-3]
seeds = [1, 2, 3]
[study.pretrain]
max_rows_per_task = 250
batch_size = 32
max_epochs = 5
[study.finetune]
max_rows_per_task = 100
batch_size = 16
max_epochs = 12

[groups]
towns = ["places", "almanac", "topics"]    # all formats, one subject
trade = ["orders", "letters", "mood"]

# Sequence labelling: names of people, places and companies in the news; tags in IOB2
[tasks.people]
format = "SL"
role = "pretrain"
train = "people/train.conll"
valid = "people/valid.conll"
columns = { tokens = 0, tags = 1 }

# Towns, rivers, hills and years in a guide book; three columns with blanks, tags in IOB1
[tasks.places]
format = "SL"
role = "pretrain"
train = "places/train.conll"
valid = "places/valid.conll"
columns = { tokens = 1, tags = 2 }

# What, how much, for whom, where and when, in orders to a shop; tag first, tags in BILOU
[tasks.orders]
format = "SL"
role = "pretrain"
train = "orders/train.conll"
valid = "orders/valid.conll"
columns = { tokens = 1, tags = 0 }

# Programmes of fairs; tags without prefix
[tasks.fairs]
format = "SL"
role = "target"
train = "fairs/train.conll"
valid = "fairs/valid.conll"
columns = { tokens = 0, tags = 1 }

# Question answering: articles about towns, companies and people; SQuAD 1.1
[tasks.almanac]
format = "QA"
role = "pretrain"
train = "almanac/train.json"
valid = "almanac/valid.json"
reader = "squad"
options = { max_length = 128, max_question = 32, stride = 32 }

# Letters of travellers; MRQA
[tasks.letters]
format = "QA"
role = "pretrain"
train = "letters/train.jsonl.gz"
valid = "letters/valid.jsonl.gz"
reader = "mrqa"
options = { max_length = 128, max_question = 32, stride = 32 }

# Articles about events, with questions that have no answer; SQuAD 2.0
[tasks.guide]
format = "QA"
role = "target"
train = "guide/train.json"
valid = "guide/valid.json"
reader = "squad"
options = { max_length = 128, max_question = 32, stride = 32 }

# Classification: was the guest pleased (1) or not (0)? A table as GLUE writes it
[tasks.mood]
format = "C"
role = "pretrain"
train = "mood/train.tsv"
valid = "mood/valid.tsv"
columns = { text = "sentence", label = "label" }

# What is a line of news about?
[tasks.topics]
format = "C"
role = "pretrain"
train = "topics/train.jsonl"
valid = "topics/valid.jsonl"
columns = { text = "line", label = "topic" }

# Does the guest come? An invitation and the reply to it
[tasks.replies]
format = "C"
role = "pretrain"
train = "replies/train.csv"
valid = "replies/valid.csv"
columns = { text = "invitation", text_pair = "reply", label = "coming" }

# What does a letter to the town hall want?
[tasks.mail]
format = "C"
role = "target"
train = "mail/train.jsonl"
valid = "mail/valid.jsonl"
columns = { text = "letter", label = "kind" }
"""
