# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 意思決定者のために
#
# [English](07_for_managers.ipynb)。表と図だけで読める体験版です。コードは折りたたんであります。図表のない 1 ページ版は[こちら](../docs/for_managers_ja.md)。
#
# 数値はすべて、保存済みの試験結果によります。同梱の小さなモデルに、候補数 1 から 64 で同じ質問を解かせ、答えを一つずつ採点しました。題材は算数の文章題、モデルもごく小さいものです。ここから読み取っていただきたいのは数値そのものではなく、決め方です。貴社の数値は、貴社の質問による試行で得られます。

# %% jupyter={"source_hidden": true} tags=["hide-input"]
from pyro_llm.study import read_study, tabulate
from pyro_llm.study.return_views import ReturnViews
from pyro_llm.study.returns import Terms
from pyro_llm.study.thinning_view import thinning

names = {
    "particle filter": "本手法(複数の候補を審査しながら絞り込む)",
    "majority": "何度か聞いて多数決",
    "best of N": "何度か聞いて審査員の一番のお気に入りを採る",
}
results = tabulate(read_study("../studies/results/accuracy"))
views = ReturnViews(results, names, "ja")
print(f"質問 {len(results.problems)} 問、手法 {len(results.curves)} 種")

# %% [markdown]
# ## この手法がすること
#
# 一つに賭けず、複数の候補を生かしたまま進めます。下の図では 32 個の候補が一歩ずつ解答を書き、第二のモデルである「審査員」が各ステップを評価します。疑わしい候補は途中で消え(薄い線が途切れます)、有望な候補は複製されて先へ進みます(太い線が枝分かれします)。最後に残るのは勝者ではなく集計、つまりそれぞれの答えの確からしさです。

# %% jupyter={"source_hidden": true} tags=["hide-input"]
thinning(
    "Mia has 47 marbles. Mia buys 48 more. 7 children take 6 marbles each. Tom has 15 fewer than Mia and gives Mia all "
    "of them. How many marbles does Mia have in the end?",
    language="ja",
)

# %% [markdown]
# 質問:「ミアはビー玉を 47 個持っています。さらに 48 個買い、7 人の子どもが 6 個ずつ持って行きます。トムはミアより 15 個少なく持っていて、それを全部ミアにあげます。ミアのビー玉は最後に何個ですか。」正解は 91 です。
#
# 要点は三つです。**まず広く、それから集中する。審査員も間違えるので、お気に入りではなく集計で決める。小さな試行から始める。**
#
# ## 得られるもの:正解率
#
# 候補数ごとの正解率です。縦棒は 95 % 区間で、大きく重なる所では優劣を論じないでください。三つの手法には同じ質問を解かせています。

# %% jupyter={"source_hidden": true} tags=["hide-input"]
views.accuracy()

# %% [markdown]
# ## いくらになるか:自社の単価で
#
# ここでの仮定(ドル)は次のとおりです。正解 1 件の価値は 1、誤答の損失は 2、人が回答する費用は 0.80(人は正しく答えるものとします)、百万トークンの価格は 2、貴社の質問にはこの試験の 100 倍のトークンが必要。答えがないとき、または答えの確率が 60 % 未満のときは人に回します。多数決とお気に入りは確率を出さないので、人に回るのは答えがない場合だけです。実行する方は**下のセルの数値を変えるか**、末尾のスライダーをお使いください。

# %% jupyter={"source_hidden": true} tags=["hide-input"]
terms = Terms(right_value=1.0, wrong_cost=2.0, price=2.0, person_cost=0.8, threshold=0.6, length=100)
views.verdict(terms)

# %% jupyter={"source_hidden": true} tags=["hide-input"]
views.value(terms)

# %% [markdown]
# 頂点を過ぎると、候補を増やす費用が効果を上回ります。点線は、全問を人が回答する場合です。
#
# 次の表は本手法のものです。太字は収益が最大の行。「候補 1 個との差」は同じ質問どうしの比較で、区間全体がゼロを上回れば偶然とは言えません。(最大の行は、評価に使ったのと同じ質問で選んでいるため、やや良く見えます。隣の行との差はわずかです。)候補が 1 個だけでは集計にならないので、確率を理由に人に回ることはありません。

# %% jupyter={"source_hidden": true} tags=["hide-input"]
views.table(terms)

# %% [markdown]
# ## どこから人に回すか
#
# しきい値を上げるほど人に回る質問が増え、自動で答える分は確かになります。各行は、そのしきい値で収益が最大になる候補数のものです。

# %% jupyter={"source_hidden": true} tags=["hide-input"]
views.thresholds(terms)

# %% [markdown]
# ## 価格ごとの最適な候補数
#
# 正解の価値(誤答の損失と人の費用も比例させます)と百万トークンの価格に対する、収益が最大の候補数と、その一問あたりの収益です。トークンが安く、答えの価値が高いほど、候補は多い方が有利です。最適な候補数でも収益が負なら、その価格では見送るべきです。

# %% jupyter={"source_hidden": true} tags=["hide-input"]
views.best_budgets(terms, prices=[0.2, 1, 5, 25], values=[0.1, 1, 10, 100])

# %% [markdown]
# ## スライダー

# %% jupyter={"source_hidden": true} tags=["hide-input"]
views.sliders(terms)

# %% [markdown]
# ## 決める前に
#
# - **試行。** 答えの分かっている自社の質問 50 問を、候補数 1、4、16、64 で。`pyro-llm bench` が実行し、このページが読む形式で結果を残します([調査の手引き](../docs/studies.md)、英語)。
# - **審査員の費用は入っていますか。** ここでは入っています。審査員のトークンも数えています。
# - **審査員が間違えたら。** [別のノートブック](05_when_the_reward_is_wrong.ipynb)(英語)で、わざと間違えさせています。
# - **単純な多数決では足りませんか。** 上の図に入れてあります。貴社の質問で同じくらい良ければ、多数決をお使いください。
