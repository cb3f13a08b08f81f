"""The words the invented world is made of: parts of names, trades, goods, days."""

from __future__ import annotations


def several(text: str) -> tuple[str, ...]:
    """Words between blanks."""
    return tuple(text.split())


SHE = several(
    "Ada Agnes Beatrice Clara Cora Della Edith Elsie Esther Flora Greta Hanna Ida Iris Jane Kate "
    "Lena Lucy Mabel Marta Nell Nora Olive Pearl Rosa Ruth Sybil Tilda Vera Wanda"
)
HE = several(
    "Adam Albert Barnaby Caleb Conrad Daniel Edgar Elias Felix Frank George Gilbert Hugo Isaac "
    "Jasper Joel Karl Leo Lewis Martin Miles Ned Oscar Otto Paul Ralph Robin Simon Theo "
    "Victor"
)
SURNAME_STARTS = several(
    "Ald Bar Bell Brad Car Chal Clay Dray Ell Ever Fair Farn Gar Gil Hal Hart Hol Kem Lang Marl "
    "Nor Pem Pres Rad Sel Stan Tal Thorn Ward Wal Wes"
)
SURNAME_ENDS = several("by croft den er good gate ing kin ler lock man ridge son well wright")

TOWN_STARTS = several(
    "Alder Ash Brack Bram Cold Copper Dun Elm Fal Fern Gold Hazel Heron Ivy Kel Kings Lark Lind "
    "Mar Mill Nor Oak Otter Pen Raven Red Rook Salt Stone Swan Tar Thorn Wend White Willow Win "
    "Wolf Yar"
)
TOWN_ENDS = several(
    "bridge brook bury combe dale field ford ham haven hurst ley mere mouth stead stow ton wick "
    "worth"
)
TOWN_FIRST_WORDS = ("Little", "Upper", "Old", "Port", "Long", "Market")

RIVER_STARTS = several(
    "Ar Bel Bre Cal Cor Dar Der El Fen Gan Ish Jor Kin Lim Lor Mel Nid Or Pel Ro Sev Tam Tav Ul "
    "Ver Wa Yel"
)
RIVER_ENDS = several("row na ble den lin mar nock ter way wen")
HILL_STARTS = several("Black Cloud Crow Fox Gorse Grey Hare High Sheep Wether White Wind")
HILL_KINDS = ("Hills", "Fells", "Downs", "Moors")

EVENT_THEMES = several(
    "Apple Bell Bread Candle Cheese Cider Duck Flower Goose Harvest Honey Kite Lamp Lantern "
    "Maypole Midsummer Moon Onion Pear Plum River Rope Snow Spring Wool"
)
EVENT_FIRST_WORDS = ("Grand", "Great", "Merry", "Royal")
EVENT_KINDS = ("Fair", "Festival", "Feast", "Parade", "Dance", "Games", "Race", "Show")

TRADES = (
    ("window glass", "Glassworks"),
    ("rye bread", "Bakery"),
    ("goat cheese", "Dairy"),
    ("writing paper", "Paper Mill"),
    ("fishing boats", "Boatyard"),
    ("wall clocks", "Clockworks"),
    ("wool cloth", "Weaving Mill"),
    ("roof tiles", "Tileworks"),
    ("candles", "Candle Works"),
    ("school books", "Press"),
    ("garden tools", "Foundry"),
    ("oak furniture", "Joinery"),
    ("leather boots", "Tannery"),
    ("pear cider", "Cider House"),
    ("ship rope", "Ropeworks"),
    ("tea cups", "Pottery"),
)
"""What a company makes, and the last part of its name."""

GOODS = (
    "plum jam",
    "smoked trout",
    "blue glass",
    "white lace",
    "honey cakes",
    "carved spoons",
    "wild garlic",
    "copper bells",
    "straw hats",
    "sheep cheese",
    "walnut bread",
    "painted kites",
    "mint tea",
    "silk ribbons",
    "roast chestnuts",
    "clay whistles",
    "apple butter",
    "woollen gloves",
)

JOBS = (
    "baker",
    "beekeeper",
    "blacksmith",
    "bookbinder",
    "carpenter",
    "clockmaker",
    "doctor",
    "ferryman",
    "gardener",
    "judge",
    "librarian",
    "miller",
    "nurse",
    "painter",
    "potter",
    "printer",
    "shepherd",
    "surveyor",
    "tailor",
    "teacher",
    "violin maker",
    "weaver",
)
"""All begin with a consonant, so that "a" is right before each."""

HOBBIES = (
    "playing the flute",
    "keeping bees",
    "collecting stamps",
    "painting birds",
    "growing roses",
    "rowing",
    "baking pies",
    "writing poems",
    "mending clocks",
    "playing chess",
    "singing in the choir",
    "flying kites",
    "carving spoons",
    "watching the stars",
)

MONTHS = several(
    "January February March April May June July August September October November December"
)
DAYS = several("Monday Tuesday Wednesday Thursday Friday Saturday Sunday")
SEASONS = ("spring", "summer", "autumn", "winter")
NUMBERS = several("three four five six seven eight nine ten eleven twelve")
AMOUNTS = (
    "two jars",
    "three boxes",
    "four crates",
    "five bags",
    "six baskets",
    "a barrel",
    "a sack",
    "ten pounds",
    "half a crate",
    "one large box",
)
